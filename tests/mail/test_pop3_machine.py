"""The POP3 machine without a socket: its table, the RFCs' own examples, poplib as a judge, and arbitrary bytes."""

import base64
import io
import poplib
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.mail.accounts import Account
from labkit.mail.maildrop import Maildrop, Message, canonical
from labkit.mail.nonces import Nonces
from labkit.mail.policy import MECHANISMS, POLICIES, replace
from labkit.mail.pop3 import AFTER_A_REFUSAL, COMMAND_LIMIT, TABLE, Pop3Machine, Pop3State, Status, stuff, top
from labkit.mail.server import AUTH_LIMIT, Want
from labkit.mail.service import MailService
from tests.mail.conftest import Pop3Session

HANAKO = Account("hanako@mail.example", "Hanako Yamada", "sakura", "m1001-hy")
TARO = Account("taro@mail.example", "Taro Suzuki", "fuji 3776 ", "m1002-ts")
TIMESTAMP = "<1896.697170952@dbc.mtview.ca.us>"
IN_USE = b"-ERR [IN-USE]"
LOGIN = b"USER hanako\r\nPASS sakura\r\n"


def service_with(
    *contents: bytes, policy: str = "smtp-auth", accounts: Iterable[Account] = (HANAKO, TARO)
) -> MailService:
    service = MailService(policy, accounts)
    for content in contents:
        service.maildrops["hanako"].append(content)
    return service


class Session(Pop3Session):
    """A session that is asked for its state as its machine is."""

    def __init__(self, service: MailService, **more: bool) -> None:
        super().__init__(service, **more)
        self.service = service

    @property
    def state(self) -> Pop3State:
        return self.machine.state

    @property
    def wants(self) -> Want:
        return self.machine.wants

    def close(self) -> None:
        self.machine.close()


class Example(Nonces):
    """RFC 1939's example has a timestamp of its own."""

    def challenge(self, hostname: str) -> str:
        return TIMESTAMP


def machine_of(service: MailService, **more: bool) -> Session:
    service.nonces = Example()
    return Session(service, **more)


def say(session: Session, *said: bytes) -> bytes:
    """What the machine answers to all of this.

    Afterwards: a session is in TRANSACTION if, and only if, somebody logged in and holds a maildrop.
    """
    answers = b"".join(session.say(*said))
    free = all(map(is_free, session.service.maildrops.values()))
    assert not free if session.state is Pop3State.TRANSACTION else free or IN_USE in answers
    return answers


def in_session(service: MailService) -> Session:
    machine = machine_of(service)
    assert say(machine, LOGIN).endswith(b"octets)\r\n")
    return machine


def is_free(drop: Maildrop) -> bool:
    if not drop.acquire():
        return False
    drop.release()
    return True


# The table


def test_table_names_methods_of_the_machine() -> None:
    assert all(callable(getattr(Pop3Machine, transition.handler)) for transition in TABLE.values())


def test_table_has_every_command_of_the_rfcs_in_its_state() -> None:
    def verbs(state: Pop3State) -> set[str]:
        return {verb for at, verb in TABLE if at is state}

    assert verbs(Pop3State.AUTHORIZATION) == {"USER", "PASS", "APOP", "AUTH", "CAPA", "STLS", "UTF8", "QUIT"}
    assert verbs(Pop3State.PASSWORD) == verbs(Pop3State.AUTHORIZATION)
    assert verbs(Pop3State.TRANSACTION) == {
        *("STAT", "LIST", "UIDL", "RETR", "TOP", "DELE", "NOOP", "RSET", "CAPA", "QUIT"),
    }
    assert verbs(Pop3State.UPDATE) == verbs(Pop3State.CLOSED) == verbs(Pop3State.NEGOTIATION) == set()


def test_only_quit_in_transaction_leads_to_update() -> None:
    ways = {key for key, transition in TABLE.items() for o in Status if transition.leads_to(o) is Pop3State.UPDATE}
    assert ways == {(Pop3State.TRANSACTION, "QUIT")}


def test_only_a_login_leads_to_transaction() -> None:
    ways = {
        key[1]
        for key, transition in TABLE.items()
        for outcome in Status
        if transition.leads_to(outcome) is Pop3State.TRANSACTION and key[0] is not Pop3State.TRANSACTION
    }
    assert ways == {"PASS", "APOP", "AUTH", ""}


def test_a_refusal_never_ends_or_starts_anything() -> None:
    assert dict(AFTER_A_REFUSAL) == {Pop3State.PASSWORD: Pop3State.AUTHORIZATION}


# The RFCs' own examples


def test_apop_example_of_rfc_1939() -> None:
    mrose = Account("mrose@mail.example", "Marshall Rose", "tanstaaf", "mrose")
    machine = machine_of(service_with(accounts=[HANAKO, mrose]))
    assert say(machine, b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n").startswith(b"+OK ")
    assert machine.state is Pop3State.TRANSACTION


def test_plain_examples_of_rfc_5034() -> None:
    test = Account("test@mail.example", "Test", "test", "test")
    service = service_with(accounts=[HANAKO, test])
    machine = machine_of(service)
    assert say(machine, b"AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\n").startswith(b"+OK ")
    machine.close()
    machine = machine_of(service)
    assert say(machine, b"AUTH PLAIN\r\n") == b"+ \r\n"
    assert say(machine, b"dGVzdAB0ZXN0AHRlc3Q=\r\n").startswith(b"+OK ")


def test_session_of_rfc_1939_section_10() -> None:
    machine = in_session(service_with(b"a" * 118 + b"\r\n", b"b" * 198 + b"\r\n"))
    assert say(machine, b"STAT\r\n") == b"+OK 2 320\r\n"
    assert say(machine, b"LIST\r\n") == b"+OK 2 messages (320 octets)\r\n1 120\r\n2 200\r\n.\r\n"
    assert say(machine, b"RETR 1\r\n") == b"+OK 120 octets\r\n" + b"a" * 118 + b"\r\n.\r\n"
    assert say(machine, b"DELE 1\r\n").startswith(b"+OK ")
    assert say(machine, b"RETR 2\r\n") == b"+OK 200 octets\r\n" + b"b" * 198 + b"\r\n.\r\n"
    assert say(machine, b"DELE 2\r\n").startswith(b"+OK ")
    assert say(machine, b"QUIT\r\n").startswith(b"+OK ")
    assert machine.wants is Want.NOTHING


# The greeting and CAPA


def test_greeting_ends_with_the_timestamp() -> None:
    assert re.fullmatch(rb"\+OK [^<>]*<[0-9]+\.[0-9]+@[a-z.]+>\r\n", machine_of(service_with()).greeting)


def capabilities(machine: Session) -> set[str]:
    lines = say(machine, b"CAPA\r\n").decode().split("\r\n")
    assert lines[0].startswith("+OK")
    assert lines[-2:] == [".", ""]
    return set(lines[1:-2])


ALWAYS = {
    *("TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "UTF8", "IMPLEMENTATION labkit"),
}
LOGINS = {"USER", "SASL PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256"}


@pytest.mark.parametrize(
    ("policy", "secured", "more"),
    [
        ("plaintext", False, {"USER"}),
        ("smtp-auth", False, LOGINS),
        ("pop-before-smtp", False, {"USER"}),
        ("starttls", False, {"STLS"}),
        ("starttls", True, LOGINS),
        ("ssl", True, LOGINS),
        ("ssl", False, set()),
    ],
)
def test_capabilities_follow_policy_and_tls(policy: str, secured: bool, more: set[str]) -> None:
    assert capabilities(machine_of(service_with(policy=policy), secured=secured)) == ALWAYS | more


def test_capabilities_are_the_same_before_and_after_login() -> None:
    service = service_with()
    assert capabilities(machine_of(service)) == capabilities(in_session(service))


# Login


def encoded(text: bytes) -> bytes:
    return base64.b64encode(text) + b"\r\n"


GOOD_LOGINS = {
    "USER": LOGIN,
    "lower case": b"user hanako\r\npass sakura\r\n",
    "bare LF": b"USER hanako\nPASS sakura\n",
    "PLAIN": b"AUTH PLAIN " + encoded(b"\0hanako\0sakura"),
    "PLAIN, lower case": b"auth plain " + encoded(b"\0hanako\0sakura"),
    "PLAIN, no initial response": b"AUTH PLAIN\r\n" + encoded(b"\0hanako\0sakura"),
    "LOGIN": b"AUTH LOGIN\r\n" + encoded(b"hanako") + encoded(b"sakura"),
    "LOGIN with a name": b"AUTH LOGIN " + encoded(b"hanako") + encoded(b"sakura"),
}


@pytest.mark.parametrize("said", GOOD_LOGINS.values(), ids=GOOD_LOGINS)
def test_every_login_opens_the_sending_window(said: bytes) -> None:
    service = service_with(policy="pop-before-smtp")
    service.policy = replace(service.policy, mechanisms=MECHANISMS)
    assert not service.may_send("192.0.2.1")
    machine = machine_of(service)
    assert say(machine, said).endswith(b"+OK 0 messages (0 octets)\r\n")
    assert machine.state is Pop3State.TRANSACTION
    assert service.may_send("192.0.2.1")
    assert not service.may_send("192.0.2.2")


def test_password_with_blanks_at_its_end() -> None:
    machine = machine_of(service_with())
    assert b"-ERR" not in say(machine, b"USER taro\r\nPASS fuji 3776 \r\n")


BAD_LOGINS = {
    "wrong password": b"USER hanako\r\nPASS wrong\r\n",
    "unknown user": b"USER nobody\r\nPASS wrong\r\n",
    "not UTF-8": b"USER \xff\xfe\r\nPASS \xff\r\n",
    "surrogates": b"USER \xed\xa0\x80\r\nPASS \xed\xa0\x80\r\n",
    "PLAIN": b"AUTH PLAIN " + encoded(b"\0hanako\0wrong"),
    "PLAIN, unknown user": b"AUTH PLAIN " + encoded(b"\0nobody\0"),
    "PLAIN for somebody else": b"AUTH PLAIN " + encoded(b"taro\0hanako\0sakura"),
    "LOGIN": b"AUTH LOGIN\r\n" + encoded(b"nobody") + encoded(b""),
    "APOP": b"APOP hanako " + b"0" * 32 + b"\r\n",
    "APOP, unknown user": b"APOP nobody " + b"0" * 32 + b"\r\n",
}


@pytest.mark.parametrize("said", BAD_LOGINS.values(), ids=BAD_LOGINS)
def test_every_failed_login_looks_the_same_and_the_third_ends_the_session(said: bytes) -> None:
    service = service_with(policy="pop-before-smtp")
    service.policy = replace(service.policy, mechanisms=MECHANISMS)
    machine = machine_of(service)
    for state in (Pop3State.AUTHORIZATION, Pop3State.AUTHORIZATION, Pop3State.CLOSED):
        assert say(machine, said).endswith(b"-ERR [AUTH] Login failed\r\n")
        assert machine.state is state
    assert machine.wants is Want.NOTHING
    assert not service.may_send("192.0.2.1")
    assert is_free(service.maildrops["hanako"])


def test_unknown_user_with_an_empty_password_gets_the_answer_that_anybody_gets() -> None:
    answers = {say(machine_of(service_with()), b"USER %b\r\nPASS \r\n" % name) for name in (b"hanako", b"nobody")}
    assert len(answers) == 1
    assert b"-ERR" in answers.pop()


def test_password_must_follow_the_name_at_once() -> None:
    machine = machine_of(service_with())
    assert say(machine, b"PASS sakura\r\n").startswith(b"-ERR ")
    for between in (b"CAPA\r\n", b"BOGUS\r\n", b"x" * 300 + b"\r\n", b"UTF8 x\r\n"):
        assert say(machine, b"USER hanako\r\n" + between + b"PASS sakura\r\n").endswith(
            b"-ERR PASS comes right after USER\r\n"
        )


def test_second_session_is_told_that_the_maildrop_is_in_use() -> None:
    service = service_with(policy="pop-before-smtp")
    first = in_session(service)
    service.forget_windows()
    second = machine_of(service)
    assert b"-ERR [IN-USE]" in say(second, LOGIN)
    assert second.state is Pop3State.AUTHORIZATION
    assert not service.may_send("192.0.2.1")
    say(first, b"QUIT\r\n")
    assert say(second, LOGIN).endswith(b"octets)\r\n")
    second.close()
    assert is_free(service.maildrops["hanako"])


# AUTH


def test_auth_lists_mechanisms_for_old_clients() -> None:
    machine = machine_of(service_with())
    answer = say(machine, b"AUTH\r\n")
    assert machine.state is Pop3State.AUTHORIZATION, "a list of mechanisms logs nobody in"
    assert answer.split(b"\r\n")[1:] == [b"PLAIN", b"LOGIN", b"CRAM-MD5", b"SCRAM-SHA-256", b".", b""]


@pytest.mark.parametrize(
    "said",
    [
        b"AUTH PLAIN\r\n*\r\n",
        b"AUTH PLAIN !!!\r\n",
        b"AUTH PLAIN YQ\r\n",
        b"AUTH PLAIN\r\nYQ=\r\n",
        b"AUTH LOGIN\r\nUSER hanako\r\n",
        b"AUTH PLAIN =\r\n",
        b"AUTH CRAM-MD5 =\r\n",
        b"AUTH CRAM-MD5 aGFuYWtv\r\n",
        b"AUTH GSSAPI\r\n",
        b"AUTH \xff\r\n",
        b"AUTH PLAIN a b\r\n",
        b"AUTH PLAIN\r\n" + b"A" * AUTH_LIMIT + b"\r\n",
    ],
)
def test_auth_that_comes_to_nothing_leaves_authorization(said: bytes) -> None:
    machine = machine_of(service_with())
    answer = say(machine, said)
    assert answer.split(b"\r\n")[-2].startswith(b"-ERR ")
    assert machine.state is Pop3State.AUTHORIZATION
    assert say(machine, LOGIN).endswith(b"octets)\r\n")


def test_empty_initial_response_is_not_a_missing_one() -> None:
    assert say(machine_of(service_with()), b"AUTH LOGIN =\r\n") == b"+ " + encoded(b"Password:")
    assert say(machine_of(service_with()), b"AUTH LOGIN\r\n") == b"+ " + encoded(b"Username:")


def test_auth_where_the_policy_has_no_mechanisms() -> None:
    machine = machine_of(service_with(policy="plaintext"))
    assert say(machine, b"AUTH\r\nAUTH PLAIN\r\n") == b"-ERR AUTH is not offered here\r\n" * 2


# STLS


LOGIN_COMMANDS = (b"USER hanako", b"PASS sakura", b"APOP hanako " + b"0" * 32, b"AUTH", b"AUTH PLAIN AHgAeQ==")


@pytest.mark.parametrize("command", LOGIN_COMMANDS)
def test_no_login_before_stls(command: bytes) -> None:
    machine = machine_of(service_with(policy="starttls"))
    answer = say(machine, command + b"\r\n")
    assert answer == b"-ERR Encryption required: use STLS first\r\n"  # not [AUTH]: the password is not wrong


@pytest.mark.parametrize("command", LOGIN_COMMANDS)
def test_no_login_in_the_clear_where_the_policy_is_ssl(command: bytes) -> None:
    machine = machine_of(service_with(policy="ssl"))
    assert say(machine, command + b"\r\n") == b"-ERR Encryption required\r\n"


def test_stls_begins_a_new_session_inside_tls() -> None:
    machine = machine_of(service_with(policy="starttls"))
    assert say(machine, b"STLS\r\n").startswith(b"+OK ")
    assert machine.wants is Want.TLS
    machine.begin(secured=True)
    assert machine.wants is Want.COMMAND
    assert "STLS" not in capabilities(machine)
    assert say(machine, b"STLS\r\n") == b"-ERR TLS is already active\r\n"
    assert say(machine, LOGIN).endswith(b"octets)\r\n")


def test_plaintext_behind_stls_is_refused_and_ends_the_session() -> None:
    machine = machine_of(service_with(policy="starttls"))
    answer = say(machine, b"STLS\r\nUSER hanako\r\n")
    assert answer.startswith(b"-ERR ")
    assert answer.count(b"\r\n") == 1
    assert machine.wants is Want.NOTHING


@pytest.mark.parametrize("policy", ["plaintext", "smtp-auth", "pop-before-smtp", "ssl"])
def test_stls_is_not_there_where_the_policy_is_another(policy: str) -> None:
    assert say(machine_of(service_with(policy=policy)), b"STLS\r\n") == b"-ERR STLS is not offered here\r\n"


def test_stls_without_a_certificate_is_not_there() -> None:
    machine = machine_of(service_with(policy="starttls"), can_start_tls=False)
    assert say(machine, b"STLS\r\nUSER x\r\n").endswith(
        b"-ERR STLS is not offered here\r\n-ERR Encryption required\r\n"
    )


def test_stls_after_utf8_is_refused() -> None:
    assert say(machine_of(service_with(policy="starttls")), b"UTF8\r\nSTLS\r\n").endswith(
        b"-ERR STLS comes before UTF8\r\n"
    )


# Lines


def test_command_of_255_octets_is_read_and_one_of_256_is_not() -> None:
    machine = machine_of(service_with())
    assert say(machine, b"USER ".ljust(COMMAND_LIMIT - 2, b"x") + b"\r\n").startswith(b"+OK ")
    assert say(machine, b"USER ".ljust(COMMAND_LIMIT - 1, b"x") + b"\r\n") == b"-ERR Line too long\r\n"
    assert say(machine, LOGIN).endswith(b"octets)\r\n")


def test_auth_line_of_12288_octets_is_read_and_one_more_is_not() -> None:
    machine = machine_of(service_with())
    long = b"AUTH PLAIN ".ljust(AUTH_LIMIT - 2, b"A")
    assert say(machine, long + b"\r\n") != b"-ERR Line too long\r\n"
    assert say(machine, long + b"A\r\n") == b"-ERR Line too long\r\n"


@pytest.mark.parametrize("said", [b"QUIT now\r\n", b"QUIT".ljust(400) + b"\r\n", b"quit\0\r\n", b"QUIT\r\r\n"])
def test_quit_that_is_not_understood_ends_nothing(said: bytes) -> None:
    service = service_with(b"x\r\n")
    machine = in_session(service)
    assert say(machine, b"DELE 1\r\n" + said).split(b"\r\n")[1].startswith(b"-ERR ")
    assert machine.state is Pop3State.TRANSACTION
    assert not is_free(service.maildrops["hanako"])
    say(machine, b"RSET\r\nQUIT\r\n")
    assert len(service.maildrops["hanako"].messages()) == 1
    assert is_free(service.maildrops["hanako"])


def test_pipelined_session_is_answered_in_order() -> None:
    machine = machine_of(service_with(b"one\r\n"))
    answers = say(machine, LOGIN + b"STAT\r\nRETR 1\r\nBOGUS\r\nDELE 1\r\nDELE 1\r\nSTAT\r\nQUIT\r\nNOOP\r\n")
    assert answers.decode().split("\r\n") == [
        "+OK Now the password",
        "+OK 1 message (5 octets)",
        "+OK 1 5",
        *("+OK 5 octets", "one", "."),
        "-ERR Unknown command",
        "+OK Marked for deletion",
        "-ERR No such message",
        "+OK 0 0",
        "+OK Bye",
        "",
    ]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"RETR\r\n", b"-ERR Syntax: RETR message\r\n"),
        (b"RETR x\r\n", b"-ERR Syntax: RETR message\r\n"),
        (b"RETR -1\r\n", b"-ERR Syntax: RETR message\r\n"),
        (b"RETR \xd9\xa1\r\n", b"-ERR Syntax: RETR message\r\n"),
        (b"TOP 1\r\n", b"-ERR Syntax: TOP message lines\r\n"),
        (b"STAT 1\r\n", b"-ERR Syntax: STAT\r\n"),
        (b"LIST 1 2\r\n", b"-ERR Syntax: LIST [message]\r\n"),
        (b"USER taro\r\n", b"-ERR USER is not possible in the TRANSACTION state\r\n"),
        (b"STLS\r\n", b"-ERR STLS is not possible in the TRANSACTION state\r\n"),
        (b"RETR 0\r\n", b"-ERR No such message\r\n"),
        (b"RETR 3\r\n", b"-ERR No such message\r\n"),
        (b"DELE 99999999999999999999\r\n", b"-ERR No such message\r\n"),
        (b"LIST 3\r\n", b"-ERR No such message\r\n"),
        (b"UIDL 3\r\n", b"-ERR No such message\r\n"),
        (b"TOP 3 0\r\n", b"-ERR No such message\r\n"),
        (b"\r\n", b"-ERR Unknown command\r\n"),
        (b"\xff\xfe\r\n", b"-ERR Unknown command\r\n"),
        (b"<script>\r\n", b"-ERR Unknown command\r\n"),
        (b"LIST 2\r\n", b"+OK 2 0\r\n"),
        (b"list 002\r\n", b"+OK 2 0\r\n"),
        (b"NOOP \r\n", b"+OK Still here\r\n"),
    ],
)
def test_answers_in_transaction(said: bytes, answer: bytes) -> None:
    machine = in_session(service_with(b"one\r\n", b""))
    assert say(machine, said) == answer
    assert machine.state is Pop3State.TRANSACTION


# Messages


def test_a_marked_message_is_gone_from_every_list_and_numbers_stay() -> None:
    machine = in_session(service_with(b"1\r\n", b"22\r\n", b"333\r\n"))
    say(machine, b"DELE 2\r\n")
    assert say(machine, b"STAT\r\n") == b"+OK 2 8\r\n"
    assert say(machine, b"LIST\r\n") == b"+OK 2 messages (8 octets)\r\n1 3\r\n3 5\r\n.\r\n"
    for command in (b"LIST 2", b"UIDL 2", b"RETR 2", b"TOP 2 1", b"DELE 2"):
        assert say(machine, command + b"\r\n") == b"-ERR No such message\r\n"
    assert say(machine, b"RSET\r\n") == b"+OK 3 messages (12 octets)\r\n"
    assert say(machine, b"LIST 2\r\n") == b"+OK 2 4\r\n"


def test_an_empty_message_is_not_a_deleted_one() -> None:
    machine = in_session(service_with(b"", b"x\r\n"))
    assert say(machine, b"STAT\r\nLIST 1\r\nRETR 1\r\nTOP 1 5\r\n") == (
        b"+OK 2 3\r\n+OK 1 0\r\n+OK 0 octets\r\n.\r\n+OK 0 octets\r\n.\r\n"
    )


def test_a_message_without_a_last_line_end_gets_one_and_counts_it() -> None:
    machine = in_session(service_with(b"a\nb"))
    assert say(machine, b"LIST 1\r\nRETR 1\r\n") == b"+OK 1 6\r\n+OK 6 octets\r\na\r\nb\r\n.\r\n"


def test_mail_that_arrives_during_a_session_waits_for_the_next_one() -> None:
    service = service_with(b"1\r\n")
    machine = in_session(service)
    service.maildrops["hanako"].append(b"2\r\n")
    assert say(machine, b"STAT\r\nDELE 1\r\nQUIT\r\n").startswith(b"+OK 1 3\r\n")
    assert [message.content for message in service.maildrops["hanako"].messages()] == [b"2\r\n"]


def test_unique_ids_stay_from_session_to_session_and_are_never_given_again() -> None:
    service = service_with(b"same\r\n", b"same\r\n")

    def uids() -> list[bytes]:
        machine = in_session(service)
        answer = say(machine, b"UIDL\r\nDELE 2\r\nQUIT\r\n")
        return [line.split()[1] for line in answer.split(b"\r\n")[1:-4]]

    one, two = uids()
    assert uids() == [one]
    service.maildrops["hanako"].append(b"same\r\n")
    again, three = uids()
    assert again == one
    assert len({one, two, three}) == 3
    assert all(re.fullmatch(rb"[\x21-\x7e]{1,70}", uid) for uid in (one, two, three))


@pytest.mark.parametrize("ending", [b"", b"NOOP\r\n", b"QUI", b"x" * 300])
def test_a_session_that_does_not_end_with_quit_deletes_nothing_and_frees_the_lock(ending: bytes) -> None:
    service = service_with(b"1\r\n", b"2\r\n")
    machine = in_session(service)
    say(machine, b"DELE 1\r\n" + ending)
    machine.close()
    machine.close()
    assert machine.wants is Want.NOTHING
    assert len(service.maildrops["hanako"].messages()) == 2
    assert is_free(service.maildrops["hanako"])


class BrokenDrop(Maildrop):
    """A maildrop on a disk that fails."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self._failing = failing

    def messages(self) -> tuple[Message, ...]:
        if "messages" in self._failing:
            raise OSError
        return super().messages()

    def delete(self, uids: Iterable[str]) -> None:
        if "delete" in self._failing:
            raise OSError
        super().delete(uids)


def test_a_maildrop_that_cannot_be_read_is_a_temporary_failure() -> None:
    service = service_with()
    drop = BrokenDrop("messages")
    service.maildrops = {"hanako": drop}
    machine = machine_of(service)
    assert say(machine, LOGIN).endswith(b"-ERR [SYS/TEMP] The maildrop cannot be read\r\n")
    assert machine.state is Pop3State.AUTHORIZATION
    assert is_free(drop)


def test_a_maildrop_that_cannot_delete_says_so_and_frees_the_lock() -> None:
    service = service_with()
    drop = BrokenDrop("delete")
    drop.append(b"x\r\n")
    service.maildrops = {"hanako": drop}
    machine = in_session(service)
    assert say(machine, b"DELE 1\r\nQUIT\r\n").endswith(b"-ERR [SYS/TEMP] Some marked messages were not deleted\r\n")
    assert machine.wants is Want.NOTHING
    assert is_free(drop)


UTF8_HEADER = "Subject: 正午\r\n\r\nx\r\n".encode()


@pytest.mark.parametrize("command", [b"RETR 1\r\n", b"TOP 1 0\r\n"])
def test_a_header_in_utf8_needs_utf8_mode(command: bytes) -> None:
    service = service_with(UTF8_HEADER)
    machine = in_session(service)
    assert say(machine, command).startswith(b"-ERR [UTF8] ")
    say(machine, b"QUIT\r\n")
    machine = machine_of(service)
    say(machine, b"UTF8\r\n" + LOGIN)
    assert UTF8_HEADER[:10] in say(machine, command)


@pytest.mark.parametrize("content", ["Subject: noon\r\n\r\n正午\r\n".encode(), b"Subject: caf\xe9\r\n\r\nx\r\n"])
def test_other_octets_need_no_utf8_mode(content: bytes) -> None:
    assert say(in_session(service_with(content)), b"RETR 1\r\n").endswith(content + b".\r\n")


# poplib as a judge: it speaks to the machine directly


class Wire:
    """What poplib takes for a socket."""

    def __init__(self, machine: Session) -> None:
        self._machine = machine
        self._answers = io.BytesIO(machine.greeting)

    def sendall(self, data: bytes) -> None:
        position = self._answers.tell()
        self._answers.seek(0, io.SEEK_END)
        self._answers.write(say(self._machine, data))
        self._answers.seek(position)

    def makefile(self, mode: str) -> io.BytesIO:
        self.sendall(b"")
        return self._answers

    def shutdown(self, how: int) -> None:
        self._machine.close()

    def close(self) -> None:
        self._machine.close()


class Poplib(poplib.POP3):
    def __init__(self, service: MailService) -> None:
        self._machine = machine_of(service)
        super().__init__("mail.example")

    def _create_socket(self, timeout: float) -> Wire:
        return Wire(self._machine)


dotted = st.lists(st.sampled_from([b".", b"\r\n", b"\n", b"\r", b"a", b"..", b" ", b"\0", b"\xff"]), max_size=40)
contents = dotted.map(b"".join) | st.binary(max_size=200)


@given(contents)
def test_poplib_reads_any_message_as_it_was_stored(content: bytes) -> None:
    session = Poplib(service_with(content))
    session.utf8()
    session.user("hanako")
    session.pass_("sakura")
    stored = canonical(content)
    reply, lines, _octets = session.retr(1)
    assert b"".join(line + b"\r\n" for line in lines) == stored
    assert int(reply.split()[1]) == len(stored) == session.stat()[1]
    session.quit()


@given(contents, contents, st.integers(0, 5))
def test_poplib_reads_the_top_of_any_message(header: bytes, body: bytes, count: int) -> None:
    lines = [line for line in canonical(header).split(b"\r\n") if line]
    body_lines = canonical(body).split(b"\r\n")[:-1]
    content = b"".join(line + b"\r\n" for line in [*lines, b"", *body_lines])
    session = Poplib(service_with(content))
    session.utf8()
    session.user("hanako")
    session.pass_("sakura")
    assert session.top(1, count)[1] == [*lines, b"", *body_lines[:count]]
    session.quit()


@given(contents)
def test_stuffing_touches_only_lines_that_begin_with_a_dot(content: bytes) -> None:
    stored = canonical(content)
    lines = stored.split(b"\r\n")
    assert stuff(stored).split(b"\r\n") == [b"." + line if line.startswith(b".") else line for line in lines]


def test_top_of_a_message_without_a_body_is_the_message() -> None:
    assert top(b"Subject: x\r\n", 10**19) == b"Subject: x\r\n"
    assert top(b"\r\nbody\r\n", 0) == b"\r\n"
    assert top(b"a: b\r\n\r\n1\r\n2\r\n", 10**19) == b"a: b\r\n\r\n1\r\n2\r\n"


# Arbitrary bytes

commands = st.sampled_from(
    [
        *(
            LOGIN,
            b"USER hanako\r\n",
            b"PASS sakura\r\n",
            b"AUTH\r\n",
            b"AUTH PLAIN\r\n",
            b"AUTH CRAM-MD5\r\n",
            b"*\r\n",
        ),
        *(b"AUTH LOGIN\r\n", encoded(b"hanako"), encoded(b"sakura"), b"AUTH SCRAM-SHA-256 biwsbj14LHI9eQ==\r\n"),
        *(b"APOP hanako " + b"0" * 32 + b"\r\n", b"CAPA\r\n", b"STLS\r\n", b"UTF8\r\n", b"STAT\r\n", b"LIST\r\n"),
        *(
            b"RETR 1\r\n",
            b"TOP 1 1\r\n",
            b"DELE 1\r\n",
            b"RSET\r\n",
            b"UIDL\r\n",
            b"QUIT\r\n",
            b"x" * 300,
            b"\r\n",
            b"\n",
        ),
    ]
)
conversations = st.lists(commands | st.binary(max_size=30), max_size=15).map(b"".join)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(conversations, st.lists(st.integers(0, 40), max_size=30), st.booleans())
def test_any_bytes_in_any_pieces_get_the_same_answer_and_leave_the_lock_free(
    data: bytes, sizes: list[int], mechanisms: bool
) -> None:
    results = []
    for pieces in ([data], cut(data, sizes), [data[i : i + 1] for i in range(len(data))]):
        service = service_with(b".one\r\n", b"two\r\n", policy="plaintext")
        if mechanisms:
            service.policy = replace(service.policy, mechanisms=("PLAIN", "LOGIN"))
        machine = machine_of(service)
        answer = b"".join(say(machine, piece) for piece in pieces)
        results.append((answer, machine.state, service.maildrops["hanako"].messages()))
        machine.close()
        assert is_free(service.maildrops["hanako"])
        assert all(line.startswith((b"+OK", b"-ERR", b"+ ")) for line in first_lines(answer))
    assert results[0] == results[1] == results[2]


def first_lines(answer: bytes) -> list[bytes]:
    """The replies' first lines, read as a client reads them: CAPA, LIST, UIDL, RETR and TOP go on to a lone dot."""
    return [line for line in answer.split(b"\r\n") if line[:1] in (b"+", b"-")]


strangers = st.lists(
    st.sampled_from(
        [verb.encode() for _state, verb in TABLE] + [b"USER hanako", b"PASS wrong", b"AUTH PLAIN", b"", b"*"]
    )
    | st.sampled_from([encoded(b"\0hanako\0wrong").strip(), b"AUTH LOGIN", b"AUTH SCRAM-SHA-256", b"APOP hanako x"])
    | st.binary(max_size=20),
    max_size=12,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


@given(strangers, st.sampled_from(sorted(POLICIES)), st.booleans())
def test_nobody_reads_mail_without_the_password(data: bytes, policy: str, secured: bool) -> None:
    service = service_with(b"Subject: secret\r\n\r\nx\r\n", policy=policy)
    machine = machine_of(service, secured=secured)
    for line in data.splitlines(keepends=True):
        assert b"secret" not in say(machine, line)
        assert machine.state is not Pop3State.TRANSACTION
    assert is_free(service.maildrops["hanako"])
    assert service.may_send("192.0.2.1") == (service.policy.pop_window is None)


@given(conversations, st.sampled_from(sorted(POLICIES)), st.booleans())
def test_no_bytes_raise_under_any_policy(data: bytes, policy: str, secured: bool) -> None:
    service = service_with(b"x\r\n", policy=policy)
    machine = machine_of(service, secured=secured)
    say(machine, data)
    machine.close()
    assert is_free(service.maildrops["hanako"])
    assert all(map(is_free, service.maildrops.values()))
