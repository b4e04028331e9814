"""The word list that guessing starts with: simple passwords, in the order in which somebody would try them.

A few hundred, written for this course: keys beside each other, numbers, names, and what people in Japan like. Real lists
hold many millions, and programs add digits and capitals to every word; this one is short, so that a lesson is.
"""

_KEYS = """
123456 password 12345678 qwerty 123456789 12345 1234 111111 1234567 123123 abc123 000000 password1 1234567890 qwerty123
654321 666666 888888 999999 777777 555555 222222 333333 444444 112233 121212 123321 101010 123qwe qwertyuiop asdfgh asdf
asdfghjkl zxcvbn zxcvbnm zxcv 1q2w3e4r 1qaz2wsx q1w2e3r4 qazwsx qweasd aaaaaa abcdef abcd1234 a1b2c3 abcabc aaa111 000111
11111111 00000000 88888888 87654321 987654321 0123456789 147258 147258369 159753 789456 246810 135790 314159 271828 4649
"""
_OFFICE = """
admin administrator root guest user test test123 demo login welcome welcome1 letmein master manager office secret secret1
changeme default access account computer internet network server system mail email message webmail postmaster pop3 smtp
passw0rd p@ssword password123 pass pass123 pass1234 mypassword nopassword private public temp temp123 hello hello123 hi
company sales support service staff boss office1 printer school student teacher university library
"""
_LIKED = """
love iloveyou lovely sweet sweetheart honey darling baby angel princess prince queen king heaven star stars moon sun
sunshine sunny summer winter spring autumn april may june july october november december monday friday sunday
flower rose lily violet daisy orange apple banana cherry lemon peach melon berry chocolate cookie coffee sugar candy
monkey dragon tiger lion bear wolf fox rabbit kitty cat cats dog dogs puppy horse pony dolphin penguin panda bird eagle
football baseball soccer tennis hockey golf basketball runner racing skiing surfing music guitar piano violin drummer
summer1 winter1 spring1 rainbow ocean island mountain river forest thunder lightning shadow silver golden diamond crystal
peace freedom happy smile lucky hope dream magic power energy victory winner champion hero legend ninja samurai pirate
"""
_JAPAN = """
sakura hanako taro tarou ichiro jiro saburo yamada suzuki tanaka sato satou watanabe takahashi kobayashi yoshida
nippon nihon japan tokyo osaka kyoto nagoya sapporo fukuoka kobe yokohama hiroshima sendai nara okinawa hokkaido kyushu
fuji fujisan mtfuji yama kawa umi sora hana tsuki hoshi yuki haru natsu aki fuyu kaze mori hikari kokoro yume ai kibou
sakura1 sakura123 sakurasaku momo momoko ume matsu take kiku ayame tsubaki himawari sumire yuri aoi hinata haruka
neko inu usagi kuma tora ryu tsuru kame tanuki kitsune pochi tama shiro kuro mikan ringo ichigo matcha sushi ramen udon
soba tempura onigiri mochi anpan arigato konnichiwa ohayo genki banzai ganbare kawaii tomodachi sensei gakusei densha
sumo judo kendo karate aikido origami ikebana haiku manga anime karaoke shinkansen doraemon gojira hanabi matsuri natsumi
daisuki aishiteru sakurako keiko yoko michiko akiko yumiko naoko tomoko kenji hiroshi takashi makoto
"""
_NAMES = """
michael jennifer jordan michelle daniel jessica charlie thomas robert andrew joshua matthew ashley nicole amanda maria
anna laura sarah peter martin george william james john david chris alex sam max lisa julia sophie oliver harry jack
"""
_YEARS = """
1970 1975 1980 1985 1990 1995 1999 2000 2001 2002 2003 2004 2005 2010 2020 2024 2025 2026
"""

WORDS = tuple(dict.fromkeys(word for part in (_KEYS, _OFFICE, _LIKED, _JAPAN, _NAMES, _YEARS) for word in part.split()))
