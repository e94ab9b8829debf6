"""Words for terminals and Markdown, what somebody meant, and large numbers."""

import errno
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taia.errors import (
    CheckpointError,
    DataError,
    InputError,
    SelectionError,
    first_line,
    out_of_memory,
    reading_of,
)
from taia.text import (
    around,
    closest,
    in_bytes,
    in_millions,
    in_time,
    markdown,
    one_line,
    printable,
    shortened,
)


@given(st.text(st.characters()))
def test_nothing_that_steers_a_terminal_is_left(words):
    kinds = {unicodedata.category(c) for c in printable(words) if c not in "\n\t"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert "\n" not in one_line(words)
    printable(words).encode()  # no lone surrogate


@given(st.text(st.characters(categories=["L", "N", "P", "S", "M"])))
def test_what_is_harmless_stays(words):
    assert printable(words) == words


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("\a\r\b\x7f\x9b", r"\x07\r\x08\x7f\x9b"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2066\u200b\ufeff\u2028", r"\u2066\u200b\ufeff\u2028"),
        ("\udc80", r"\udc80"),
        ("𝛼 − ≤ 数\n\t", "𝛼 − ≤ 数\n\t"),
    ],
)
def test_what_steers_is_shown(raw, shown):
    assert printable(raw) == shown


@given(st.text(), st.integers(20, 100))
def test_shortened_keeps_both_ends(words, most):
    short = shortened(words, most)
    assert len(short) <= most
    assert short == words or (short[:5] == words[:5] and short[-3:] == words[-3:])


@given(st.text(min_size=1), st.integers(10, 60), st.data())
def test_words_around_one_of_their_characters(words, most, data):
    at = data.draw(st.integers(0, len(words) - 1))
    shown, where = around(words, at, most)
    assert shown[where] == words[at]
    assert len(shown) <= most + 4
    assert shown.removeprefix("… ").removesuffix(" …") in words or "…" in words
    if len(words) <= most:
        assert (shown, where) == (words, at)


@given(st.text())
def test_markdown_is_one_line_without_meaning(words):
    shown = markdown(words)
    assert len(shown.splitlines()) <= 1
    plain = shown.replace("\\\\", "")
    assert all(plain[at - 1] == "\\" for at, c in enumerate(plain) if c in "`*_[]|<>&~$" and at)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("tai", "taia"),
        ("TAIA", "taia"),
        ("Tuned", "tuned"),
        ("atention", "attention"),
        ("Q_PROJ", "q_proj"),
        ("taia-qv", "taia-qkvo"),
        ("xyzzy", None),
        ("", None),
    ],
)
def test_modes_come_first_and_case_does_not_matter(typed, meant):
    modes = ["base", "tuned", "taia", "taif", "taia-qkvo", "taia-strict"]
    assert closest(typed, ["attention", "mlp", "q_proj", "tail"], modes) == meant


class _Panic(BaseException):
    """As tokenizers' of Rust."""


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        RecursionError(),
        TypeError("\n\n  two\nlines."),
        _Panic("index"),
        OSError(2, "no"),
    ],
)
def test_whatever_a_library_raises_of_a_file_is_bad_input(error):
    with (
        pytest.raises(DataError) as told,
        reading_of("the file of f", "Write it again.", DataError),
    ):
        raise error
    assert told.value.problem == f"the file of f cannot be read: {first_line(error)}."
    assert told.value.mend == "Write it again."
    assert told.value.__cause__ is error
    assert isinstance(told.value, InputError)


class OutOfMemoryError(RuntimeError):
    """As PyTorch's, by name: no test of these needs torch."""


class _CudaError(OutOfMemoryError):
    """One of a kind of it."""


NO_MEMORY = [
    OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    _CudaError("full"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    RuntimeError("unable to mmap 8 bytes from file <f>: Cannot allocate memory (12)"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("libparquet.so.2600: failed to map segment from shared object"),
    RuntimeError("std::bad_alloc"),
]


@pytest.mark.parametrize("error", NO_MEMORY)
def test_memory_that_has_run_out_is_no_bad_input_however_it_is_said(error):
    with pytest.raises(MemoryError) as told, reading_of("f", "m", CheckpointError):
        raise error
    assert told.value.__cause__ is error
    assert out_of_memory(error)
    assert out_of_memory(told.value)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the field DefaultCPUAllocator says out of memory"),
        RuntimeError("Error(s) in loading state_dict: size mismatch for memory.weight"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_other_errors_are_no_lack_of_memory(error):
    assert not out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(1),
        MemoryError(),
        ModuleNotFoundError("m"),
        SelectionError("a", "b"),
    ],
)
def test_what_is_not_the_files_fault_passes(error):
    with pytest.raises(type(error)) as told, reading_of("f", "m", CheckpointError):
        raise error
    assert told.value is error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one.\ntwo"), "one"),
        (ValueError("\n \n one "), "one"),
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (ValueError("."), "ValueError"),
        (KeyError("model_type"), "'model_type'"),
        # as huggingface_hub's strict dataclasses, and as torch's load_state_dict
        (
            ValueError("Validation error for field 'n':\n    TypeError: Field 'n' expected int.\n"),
            "Validation error for field 'n': TypeError: Field 'n' expected int",
        ),
        (ValueError("one:\n\n two:\n\tthree.\nfour"), "one: two: three"),
        (ValueError("one:"), "one"),
        (
            ValueError("2 validation errors for Chat\nmessages.0\n  Too short [type=x]\nn\n  No"),
            "2 validation errors for Chat messages.0 Too short [type=x]",
        ),
        (ValueError("1 validation error for Chat"), "1 validation error for Chat"),
    ],
)
def test_the_first_line_of_an_error(error, said):
    assert first_line(error) == said


# --- large numbers, in three figures ------------------------------------------------------------

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 K"),
        (134_515_008, "135 M"),
        (999_500, "1 M"),  # not "1e+03 K"
        (999_499, "999 K"),
        (7_241_732_096, "7.24 B"),
        (1_500_000_000_000_000, "1500 T"),
    ],
)
def test_counts(count, text):
    assert in_millions(count) == text


def test_bytes():
    assert [in_bytes(n) for n in (0, 512, 269_060_552, 14_500_000_000)] == (
        ["0 B", "512 B", "269 MB", "14.5 GB"]
    )


@settings(max_examples=200)
@given(st.integers(0, 10**16))
def test_a_size_reads_back_to_three_figures(count):
    number, _, unit = in_millions(count).partition(" ")
    assert "e" not in number
    assert float(number) * UNITS[unit] == pytest.approx(count, rel=0.005)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (150, "2.5 min"),
        (599, "10 min"),
        (6_900, "115 min"),  # not 1.2e+02
        (7_200, "2 h"),
        (100_000, "28 h"),
        (86_400 * 150, "150 days"),
    ],
)
def test_a_duration_is_told_in_its_own_unit_and_in_plain_digits(seconds, shown):
    assert in_time(seconds) == shown
