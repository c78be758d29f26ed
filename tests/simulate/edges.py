"""What may happen at the edges: to Kafka's log, to the topic, to files of the archive; and what a person does about it."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from contract.master import MASTER, QUARANTINE
from serving.database import connect
from tests.simulate.operator import accept_gap, forget, forget_again, lift_statement, resume_topic
from tests.simulate.statements import names_of
from tests.simulate.world import World

_MOST_PARTITIONS = 5
_MOST_LOST = 6
_COMMANDS = ("resume-topic", "accept-gap")
_FORGETTING_STEPS = (5, 20, 60, 200, 400)


def restart_broker(world: World) -> None:
    """Kafka's broker starts: each partition has a new leader epoch, and every record that it had."""
    world.logs.cut({})


def add_partition(world: World) -> None:
    """The topic gets one more partition; producers know it at once."""
    if len(world.topic.partitions) < _MOST_PARTITIONS:
        world.logs.add_partition()


def retention(world: World) -> None:
    """Kafka deletes what is archived; in one history of ten, what is not, too."""
    partition = world.chance.choice(list(world.topic.partitions))
    low, end = world.topic.low_offsets.get(partition, 0), world.logs.ends()[partition]
    archived = {one.time_ms for one in world.stored.records(partition).values()} | {
        *world.marked.get(partition, {}).values()
    }
    there = world.logs.there(partition)
    first_unarchived = next((one.offset for one in there if one.time_ms not in archived), end)
    overtakes = world.seed % 10 == 0 and not world.is_position_lost()
    target = world.chance.randint(low, end if overtakes else first_unarchived)
    lost = [one.time_ms for one in there if one.offset < target and one.time_ms not in archived]
    if world.producers.may_expire(partition, target) and world.producers.are_apart(lost):
        world.topic.low_offsets[partition] = target


def cut_logs(world: World) -> None:
    """The broker's machine loses power, and its logs lose their ends; perhaps everything else ran on it too.

    Of the archivers one goes on at most: two would store different records of the same offsets. One loss is settled before
    the next; and a file that is missing is archived again before, because nobody else knows what its offsets were.
    """
    if world.misses_files() or world.is_position_lost():
        return
    world.kill(*_COMMANDS)
    if world.chance.random() < 0.5:
        world.kill("")
    world.keep_one_archiver()
    ends = world.logs.ends()
    for partition, end in ends.items():
        ends[partition] = world.chance.choice([end, *_cuts(world, partition)])
    lost = {partition: (at, end) for partition, end in world.logs.ends().items() if (at := ends[partition]) < end}
    world.logs.cut(ends)
    for partition, (first, after) in lost.items():
        world.history.append(f"partition {partition}: Kafka lost its offsets [{first}, {after})")


def _cuts(world: World, partition: int) -> list[int]:
    """Where a log may be cut: mostly below what the speed layer has read, whose records only it may have."""
    low, end = world.topic.low_offsets.get(partition, 0), world.logs.ends()[partition]
    places = list(range(max(low, end - _MOST_LOST), end))
    counted = world.counted_log_offsets().get(partition, 0)
    read = [place for place in places if place < counted]
    return read if read and world.chance.random() < 0.7 else places


def replace_topic(world: World) -> None:
    """The topic is deleted and made again, with as many partitions; within the limits of `cut_logs`."""
    if world.misses_files() or world.is_position_lost():
        return
    counted = world.counted_log_offsets()
    if not all(counted.get(partition, 0) for partition in world.topic.partitions):
        world.kill("archiver")
    archived = {partition for partition, end in world.ends().items() if end.log_offset}
    if all(counted.get(partition, 0) for partition in archived):
        world.logs.replace()
        world.history.append(f"{world.topic.topic_id} takes the place of the one before")


def lose_file(world: World) -> None:
    """A file of the archive is gone, and perhaps the quarantine file beside it, whether Kafka still has its records or not.

    Not one without which nobody knows any more how offsets are numbered; nor one of events that are somewhere else once
    more, because the speed layer would go on to take those for repeats; nor one of what was forgotten until that was
    lifted, because from Kafka it would be archived as what counts.
    """
    files = [file for partition in world.archived_partitions() for file in world.stored.files(partition)]
    # One that is at it may have found the rejects of a file there, and writes the events beside them next.
    writes = any(archiver.alive and archiver.at.startswith("hdfs") for archiver in world.archivers) or world.is_forgetting()
    if not files or writes or world.is_position_lost():
        return
    file = world.chance.choice(files)
    held = world.stored.held(file)
    if any(not world.statements.forgets(world.marked[file.partition][offset]) for offset in world.stored.marked(file)):
        return
    only_there = set(range(file.first_offset, file.next_offset)) - world.stored.covered(file.partition, but=file)
    gone = dict.fromkeys(only_there) | {one.offset: one.time_ms for one in held if one.offset in only_there}
    before = world.stored.extent(file.partition)
    after = world.stored.extent(file.partition, [one for one in world.stored.files(file.partition) if one != file])
    is_of_this_log = {before.end.shift} == {one.offset - world.logs.sent[one.time_ms].offset for one in held}
    if only_there and (
        (before.end.topic_id, before.end.shift) != (after.end.topic_id, after.end.shift)
        or after.same_log_offset > before.same_log_offset
        or not is_of_this_log
        or not world.producers.are_apart([time_ms for time_ms in gone.values() if time_ms is not None])
    ):
        return
    world.removed.setdefault(file.partition, {}).update(gone)
    for dataset in (MASTER, QUARANTINE) if world.chance.random() < 0.7 else (MASTER,):
        world.store.files.pop(file.path(world.settings.archive_root, dataset), None)
    world.history.append(f"{file} is lost, with {len(gone)} offsets that no other file has")


def resume_topics(world: World) -> None:
    """A person lets readers go on in the log that there is, or breaks that off; status says if there is a reason to."""
    if not world.commands_under_way() and (world.chance.random() < 0.1 or world.is_position_lost()):
        world.command("resume-topic", resume_topic, world.chance.choice([5, 20, 60, 200]))


def accept_gaps(world: World) -> None:
    """A person gives up what nobody has any more, or breaks that off."""
    if not world.commands_under_way() and (world.chance.random() < 0.1 or world.lacks_offsets()):
        world.command("accept-gap", accept_gap, world.chance.choice([5, 20, 60, 200]))


def send_lost_again(world: World) -> bool:
    """Who has what the speed layer alone had read sends it again, once it is out of the views; False if there is nothing."""
    query = "SELECT partition, first_offset, next_offset FROM serving.lost_offsets WHERE run_id IS NOT NULL AND NOT is_gap"
    with connect(world.settings, "postgres") as owner:
        rows = owner.execute(query).fetchall()
    read = [world.read.get(partition, {}).get(at) for partition, first, after in rows for at in range(first, after)]
    same = defaultdict(list)
    for time_ms in read:
        if time_ms is not None and time_ms not in world.sent_again:
            same[world.logs.first_of(time_ms)].append(time_ms)
    lost = [time_ms for some in same.values() if world.producers.are_apart(some) for time_ms in some]
    if lost:
        world.sent_again.update(lost)
        world.producers.send_lost([world.logs.sent[time_ms] for time_ms in lost])
        world.history.append(f"{len(lost)} lost records are sent again")
    return bool(lost)


def change_archiver(world: World) -> None:
    """The event gets its duration, as far as archivers are concerned, or a deploy of that is taken back.

    The layers that count know it all the while: what they need of it batch runs find in the values.
    """
    world.knows_duration = not world.knows_duration
    world.history.append(f"archivers that start now {'know' if world.knows_duration else 'do not know'} the duration")
    if world.chance.random() < 0.7:
        world.kill("archiver")


def forget_something(world: World) -> None:
    """A person takes back all of a site, a visitor or a source of which the archive has something, or breaks that off."""
    held = [one for partition in world.archived_partitions() for one in world.stored.records(partition).values()]
    if not held or world.commands_under_way() or (world.statements.unfinished and world.chance.random() < 0.9):
        return
    kind, what = world.chance.choice(
        names_of(world.logs.sent[world.chance.choice(held).time_ms].value) or [("site", "none")]
    )
    world.statements.asked = kind, what
    world.command("forget", partial(forget, kind=kind, what=what), world.chance.choice(_FORGETTING_STEPS))


def go_on_forgetting(world: World) -> None:
    """A person goes on where a command broke off, now and then without a reason, or breaks that off."""
    if not world.commands_under_way() and (world.statements.unfinished or world.chance.random() < 0.02):
        world.command("forget", forget_again, world.chance.choice(_FORGETTING_STEPS))


def lift(world: World) -> None:
    """What was forgotten shall count if it comes again; not while it is on its way again within the window."""
    standing = world.statements.standing
    if standing and not world.commands_under_way() and not world.misses_files():
        one = world.chance.choice(standing)
        if not world.is_on_its_way(one):
            world.command("lift", partial(lift_statement, number=one.number), world.chance.choice([2, 10, 30, 60, 200]))


def send_forgotten_again(world: World) -> None:
    """Who still has some of what was forgotten sends it once more, if no other copy of it counts."""
    with connect(world.settings, "reader") as reader:
        taken_out = {
            number for (number,) in reader.execute("SELECT number FROM forgotten WHERE run_id IS NOT NULL").fetchall()
        }
    lifted = world.lifted_in_window()
    gone = [
        world.logs.sent[time_ms]
        for marks in world.marked.values()
        for time_ms in marks.values()
        if time_ms not in lifted
        and world.producers.are_apart([time_ms])
        and any(one.number in taken_out and time_ms <= one.last_sent_ms for one in world.statements.naming(time_ms))
    ]
    if gone:
        again = world.chance.sample(gone, min(len(gone), world.chance.randint(1, 6)))
        world.producers.send_same(again)
        world.history.append(f"{len(again)} forgotten records are sent again")
