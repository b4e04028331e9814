"""The word list that guessing starts with: simple passwords, in the order in which somebody would try them.

A few hundred, written for this course: keys beside each other, numbers, names, and what people in Japan like. Real lists
hold many millions, and programs add digits and capitals to every word; this one is short, so that a lesson is.
"""

from importlib.resources import files

WORDS = tuple(dict.fromkeys((files(__package__) / "wordlist.txt").read_text(encoding="ascii").split()))
