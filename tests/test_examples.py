"""How examples of documents are run and compared: what is wrong has to be seen"""

from pathlib import Path

import pytest

from examples import blocks, examples, running, same


@pytest.mark.parametrize(
    ("printed", "got"),
    [
        ("204\n", "204"),
        ('{"a": 1,\n "b": null}', '{"a": 1, "b": null}\n'),
        ('{"at": "2026-01-05T12:00:00.250Z"}', '{"at": "2031-11-30T01:02:03.004Z"}'),
        ('{"uptime_seconds": 1, "b": 2}', '{"uptime_seconds": 17, "b": 2}'),
        (
            '{"url": "http://x/acme/l/1/...", "b": 2}',
            '{"url": "http://x/acme/l/1/ASmpNxgrOWb_dtwR", "b": 2}',
        ),
        ("a ... c", "a b c"),
        ("curl/... x\nb", "curl/7.88.1 x\nb\n"),
        ("lb_...", "lb_" + "k" * 43),
        ('{"a": 1}\n{"a": 2}', '{"a": 1}\n{"a": 2}\n'),
    ],
)
def test_what_is_the_same(printed: str, got: str) -> None:
    assert same(printed, got)


@pytest.mark.parametrize(
    ("printed", "got"),
    [
        ("204", "200"),
        ("", "200"),
        ("200", ""),
        ("200 image/gif 42", "200 image/gif 43"),
        ('{"a": 1, "b": 2}', '{"a": 1}'),
        ('{"a": 1}', '{"a": 1, "b": 2}'),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
        ('{"a": 1}', '{"a": 2}'),
        ('{"a": 1}', '{"a": 1.0}'),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": null}', '{"a": ""}'),
        ('{"a": "x"}', '{"a": "y"}'),
        ('{"a": [1]}', '{"a": [1, 2]}'),
        ('{"a": 1}', '{"a": 1}\n{"a": 2}'),
        ('{"a": 1}', "curl: (7) Failed to connect"),
        ('{"at": "2026-01-05T12:00:00.250Z"}', '{"at": "2026-01-05T12:00:00Z"}'),
        ('{"at": "2026-01-05T12:00:00Z"}', '{"at": null}'),
        ('{"seconds_to_first_open": 1.5}', '{"seconds_to_first_open": null}'),
        ('{"url": "http://x/acme/l/1/..."}', '{"url": "http://x/acme/l/2/ASmpNxgrOWb_dtwR"}'),
        ('{"url": "http://x/acme/l/1/..."}', '{"url": "http://x/acme/l/1/"}'),
        ('{"url": "http://x/acme/l/1/..."}', '{"url": "http://x/acme/l/1/ASmp"}'),
        ("a ... c", "a b d"),
        ("a\nb", "a"),
        ("lb_...", "lb_short"),
    ],
)
def test_what_is_another(printed: str, got: str) -> None:
    assert not same(printed, got)


@pytest.mark.parametrize(
    "wrong",
    [
        "```console\n$ curl -s localhost:3000/acme/emails -d '{}'\n"
        '{"email_id": 2, "tracking_pixel_url": "http://localhost:3000/acme/pixel/2.gif"}\n```\n',
        "```console\n$ curl -s -f localhost:3000/nothing/there\n```\n",
        "```console\n$ exit 3\n```\n",
        "```python\nprint(1 + 1)  # 3\n```\n",
        "```python\nraise ValueError\n```\n",
    ],
)
def test_an_example_that_is_wrong_is_found(wrong: str, tmp_path: Path) -> None:
    with running(tmp_path) as run, pytest.raises((AssertionError, ValueError)):
        run.document(wrong)


def test_a_new_server_knows_nothing_and_has_its_settings(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        run.document(
            "```console\n$ A=1; curl -s localhost:3000/acme/emails -d '{}' -o made\n```\n"
            "<!-- a new server: AUTH=keys -->\n"
            "```console\n$ echo $A $AUTH; ls\nkeys\ndata\nstderr.log\nstdout.log\n"
            "$ false\n$ echo $?\n1\n```\n"
        )
    assert run.ran == 4


def test_commands_go_on_behind_a_backslash_and_within_quotes() -> None:
    [block] = blocks("text\n\n```console\n$ a \\\n  b\nc\n$ d '{\n  e'\n$ f\n```\n")
    assert (block.language, block.line) == ("console", 3)
    assert [tuple(example) for example in examples(block.code)] == [
        ("a \\\n  b", "c\n"),
        ("d '{\n  e'", ""),
        ("f", ""),
    ]
