"""Files of scalars, read by TensorFlow."""

import pytest

from keras_en.training.events import EventFile

pytestmark = pytest.mark.tensorflow


def scalars(folder):
    """`(step, {tag: value})` of every event of the files in a folder."""
    import tensorflow as tf

    events = []
    for path in sorted(map(str, folder.iterdir())):
        # TensorFlow compares the checksums.
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            values = {value.tag: value.simple_value for value in event.summary.value}
            events.append((event.step, values))
    return events


def test_tensorflow_reads_them(tmp_path):
    file = EventFile(tmp_path / "new" / "train")
    assert not (tmp_path / "new").exists()
    file.write(0, {"loss": 0.5, "größe/" + "x" * 200: -2.0})
    file.write(300, {"loss": 2.0**-40})
    folder = tmp_path / "new" / "train"
    assert scalars(folder) == [
        (0, {}),
        (0, {"loss": 0.5, "größe/" + "x" * 200: -2.0}),
        (300, {"loss": 2.0**-40}),
    ]
    (path,) = folder.iterdir()
    import tensorflow as tf

    first = next(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    event = tf.compat.v1.Event.FromString(first)
    assert event.file_version == "brain.Event:2"
    assert event.wall_time == pytest.approx(path.stat().st_mtime, abs=60)


def test_two_files_side_by_side(tmp_path):
    for step in (1, 2):
        EventFile(tmp_path).write(step, {"loss": float(step)})
    assert [event for event in scalars(tmp_path) if event[1]] == [
        (1, {"loss": 1.0}),
        (2, {"loss": 2.0}),
    ]
