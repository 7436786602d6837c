"""The model of a disk that loses its power, and the reading of what strace saw. No process is traced here."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from sim.crash.disk import (
    DROPPED,
    KEPT,
    LENGTH,
    Create,
    Disk,
    Operation,
    Remove,
    Rename,
    Resize,
    Settled,
    Survivors,
    Sync,
    SyncDirectory,
    Write,
    torn,
)
from sim.crash.record import Reader, Recording, RecordingFailed
from sim.crash.states import drawn, telling


def chance(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - to be repeated


MADE = (Create("a", 0), SyncDirectory())


def disk_after(*operations: Operation) -> Disk:
    disk = Disk()
    for operation in operations:
        disk.take(operation)
    return disk


def left(disk: Disk, survivors: str) -> dict[str, bytes]:
    return {name: content.data for name, content in disk.left(Survivors.parse(survivors)).items()}


def test_what_was_synced_stays_and_every_other_write_is_kept_or_dropped_whatever_its_order() -> None:
    disk = disk_after(*MADE, Write(0, 0, b"old"), Sync(0), Write(0, 0, b"NE"), Write(0, 1, b"W!"))
    found = {text: left(disk, text)["a"] for text in ("0:00", "0:10", "0:01", "0:11")}
    assert found == {"0:00": b"old", "0:10": b"NEd", "0:01": b"oW!", "0:11": b"NW!"}
    disk.take(Sync(0))
    assert left(disk, "0:") == {"a": b"NW!"}


def test_a_write_is_torn_at_multiples_of_512_bytes_of_its_file() -> None:
    write = Write(0, 500, b"x" * 12 + b"y" * 512 + b"z" * 3)
    assert write.pieces() == [(500, 512), (512, 1024), (1024, 1027)]
    disk = disk_after(*MADE, write)
    assert left(disk, "0:t1;")["a"] == bytes(500) + b"x" * 12
    assert left(disk, "0:t5;")["a"] == bytes(500) + b"x" * 12 + bytes(512) + b"z" * 3


def test_a_file_that_grew_may_have_the_length_alone() -> None:
    disk = disk_after(*MADE, Write(0, 0, b"abc"), Sync(0), Write(0, 1, b"BCDE"))
    assert left(disk, "0:z")["a"] == b"abc\0\0"


def test_a_change_of_size_may_be_dropped_too() -> None:
    disk = disk_after(*MADE, Write(0, 0, b"abcdef"), Sync(0), Resize(0, 2), Resize(0, 4, at_least=True))
    assert [left(disk, text)["a"] for text in ("0:00", "0:10", "0:01", "0:11")] == [
        b"abcdef",
        b"ab",
        b"abcdef",
        b"ab\0\0",
    ]


def test_names_change_in_their_order_and_only_a_sync_of_the_directory_keeps_them() -> None:
    operations = (*MADE, Create("b", 1), Write(1, 0, b"new"), Sync(1), Rename("b", "a"), Create("c", 2), Remove("c"))
    disk = disk_after(*operations)
    found = [left(disk, f"{names}:") for names in range(5)]
    assert found == [
        {"a": b""},
        {"a": b"", "b": b"new"},
        {"a": b"new"},
        {"a": b"new", "c": b""},
        {"a": b"new"},
    ]
    disk.take(SyncDirectory())
    assert disk.namings() == 0
    assert left(disk, "0:") == {"a": b"new"}


def test_a_new_name_may_be_there_before_its_bytes() -> None:
    disk = disk_after(*MADE, Create("b", 1), Write(1, 0, b"new"), Rename("b", "a"))
    assert left(disk, "2:0") == {"a": b""}


def test_after_a_long_time_everything_is_on_the_disk() -> None:
    disk = disk_after(Create("b", 1), Write(1, 0, b"new"), Settled())
    assert left(disk, "0:") == {"b": b"new"}


def test_survivors_read_back_and_those_of_another_cut_are_refused() -> None:
    survivors = Survivors(2, (KEPT, DROPPED, torn(0x1F), LENGTH, KEPT))
    assert str(survivors) == "2:10t1f;z1"
    assert Survivors.parse(str(survivors)) == survivors
    with pytest.raises(ValueError, match="no fate"):
        Survivors.parse("0:2")
    with pytest.raises(ValueError, match="1 changes not synced"):
        disk_after(*MADE, Write(0, 0, b"x")).left(survivors)


def test_each_unsynced_write_is_looked_at_by_itself_and_the_one_under_way_torn_everywhere() -> None:
    disk = disk_after(*MADE, Create("b", 1), Write(1, 0, bytes(2048)), Write(0, 0, b"y"), Write(0, 512, b"z" * 1536))
    found = {str(each) for each in telling(disk, chance(1))}
    assert {
        f"{names}:{fates}" for names in (0, 1) for fates in ("111", "000", "011", "100", "101", "010", "110")
    } <= found
    assert {"1:11t1;", "1:11t3;", "1:11t6;", "1:11t4;", "1:t3;11", "1:tc;11", "1:11z"} <= found
    # Nothing impossible is looked at.
    for each in telling(disk, chance(1)):
        disk.left(each)


def test_what_is_drawn_hangs_on_the_seed_alone() -> None:
    disk = disk_after(*MADE, *(Write(0, 512 * n, bytes([n]) * 1024) for n in range(9)))
    first, again, other = (list(drawn(disk, chance(seed), 20)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert {fate for each in first for fate in each.fates} > {KEPT, DROPPED, LENGTH}


def test_what_is_drawn_holds_the_last_operation_or_it_was_a_state_of_the_cut_before() -> None:
    disk = disk_after(*MADE, Write(0, 0, b"x"), Create("b", 1), Write(1, 0, b"y"))
    assert all(each.fates[-1].kept for each in drawn(disk, chance(1), 50))
    disk.take(Rename("b", "c"))
    assert {each.names for each in drawn(disk, chance(1), 50)} == {2}
    disk.take(Sync(1))
    assert list(drawn(disk, chance(1), 50)) == []


# What strace prints, with the bytes in hexadecimal.


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


FOLDER = Path("/rec")
A = hexed("/rec/data/a")
OPENED = f'7 openat(AT_FDCWD<{hexed("/")}>, "{A}", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 3<{A}>'


def recorded(*lines: str) -> Recording:
    reader = Reader(FOLDER)
    reader.feed(lines)
    return reader.recording


def test_each_call_becomes_the_operation_it_is() -> None:
    data, cwd = hexed("/rec/data"), hexed("/rec/data")
    recording = recorded(
        OPENED,
        f'7 write(3<{A}>, "{hexed("one")}", 3) = 3',
        f'7 write(3<{A}>, "{hexed("twotwo")}", 6) = 2',
        f"7 lseek(3<{A}>, 1, SEEK_SET) = 1",
        f'7 write(3<{A}>, "{hexed("x")}", 1) = 1',
        f"7 ftruncate(3<{A}>, 9) = 0",
        f"7 fallocate(3<{A}>, 0, 0, 4096) = 0",
        f"7 fdatasync(3<{A}>) = 0",
        f'7 rename("{A}", "{hexed("/rec/data/b")}") = 0',
        f"7 fsync(4<{data}>) = 0",
        f'7 unlinkat(AT_FDCWD<{cwd}>, "{hexed("b")}", 0) = 0',
        f'7 unlink("{A}") = -1 ENOENT (No such file or directory)',
        f'7 write(1<{hexed("/dev/null")}>, "{hexed("elsewhere")}", 9) = 9',
    )
    assert recording.operations == [
        Create("a", 0),
        Write(0, 0, b"one"),
        Write(0, 3, b"tw"),
        Write(0, 1, b"x"),
        Resize(0, 9),
        Resize(0, 4096, at_least=True),
        Sync(0),
        Rename("a", "b"),
        SyncDirectory(),
        Remove("b"),
    ]


def test_a_write_counts_from_its_start_and_a_sync_from_its_end() -> None:
    recording = recorded(
        OPENED,
        f"8 fdatasync(3<{A}> <unfinished ...>",
        f'7 pwrite64(3<{A}>, "{hexed("x")}", 1, 0 <unfinished ...>',
        f'9 write(1<{hexed("/dev/null")}>, "{hexed("y")}", 1 <unfinished ...>',
        f'7 pwrite64(3<{A}>, "{hexed("z")}", 1, 1) = 1'.replace("7 ", "6 ", 1),
        "9 <... write resumed>) = 1",
        "8 <... fdatasync resumed>) = 0",
        "7 <... pwrite64 resumed>) = 1",
    )
    assert recording.operations == [Create("a", 0), Write(0, 0, b"x"), Write(0, 1, b"z"), Sync(0)]


def test_what_the_witness_told_stands_between_the_operations() -> None:
    witness = hexed("/rec/witness")

    def told(mark: str) -> str:
        return f'7 write(9<{witness}>, "{hexed(f"""{{"mark": "{mark}"}}""")}\\x0a", 1000) = 1000'

    lines = [OPENED, told("watch"), f'7 pwrite64(3<{A}>, "{hexed("x")}", 1, 0) = 1', told("done"), told("outside")]
    recording = recorded(*lines, f"7 ftruncate(3<{A}>, 0) = 0", told("inside"))
    assert [(place, line["mark"]) for place, line in recording.told] == [
        (1, "watch"),
        (2, "done"),
        (2, "outside"),
        (4, "inside"),
    ]
    assert recording.operations[-1] == Settled()
    assert recording.cuts() == [1, 4]


@pytest.mark.parametrize(
    "line",
    [
        f"7 writev(3<{A}>, [], 1) = 1",
        f'7 link("{A}", "{hexed("/rec/data/c")}") = 0',
        f'7 rename("{A}", "{hexed("/rec/elsewhere")}") = 0',
        f"7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3<{A}>, 0) = 0x7f0000000000",
        f"7 fallocate(3<{A}>, FALLOC_FL_PUNCH_HOLE, 0, 4096) = 0",
        f'7 openat(AT_FDCWD<{hexed("/")}>, "{A}", O_RDWR|O_DSYNC) = 4<{A}>',
        f'7 openat(AT_FDCWD<{hexed("/")}>, "{hexed("/rec/data/z")}", O_RDWR) = 4<{hexed("/rec/data/z")}>',
        f'7 pwrite64(3<{A}>(deleted), "{hexed("x")}", 1, 0) = 1',
        f'7 mkdir("{hexed("/rec/data/d")}", 0700) = 0',
        f'7 pwrite64(3<{A}>, "{hexed("x")}"..., 4096, 0) = 4096',
        f'7 rename("{A}", "{A}",',
        "7 sync() = 0",
        "7 io_uring_setup(8, {}) = 5",
    ],
)
def test_a_call_that_is_not_modelled_ends_the_recording(line: str) -> None:
    with pytest.raises(RecordingFailed, match=r"not understood|without an end"):
        recorded(OPENED, line)


def test_the_memory_that_sqlite_makes_anew_may_be_mapped() -> None:
    shm = hexed("/rec/data/a-shm")
    line = f"7 mmap(NULL, 32768, PROT_READ|PROT_WRITE, MAP_SHARED, 4<{shm}>, 0) = 0x7f0000000000"
    assert recorded(OPENED, line).operations == [Create("a", 0)]
