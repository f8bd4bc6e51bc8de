"""What the statistics of ResNet-50 send between replicas in a training step, on paper.

    python benchmarks/communication.py

Counted from the network and from the collectives that a layer issues (a test of
tests/ops/test_replicas.py counts them); nothing is measured. Writes
docs/communication.md.
"""

from pathlib import Path

from keras_en.layers import ExemplarNormalization
from keras_en.models import ResNet50

REPLICAS = (8, 64, 512)
PATH = Path(__file__).parent.parent / "docs" / "communication.md"
HEAD = """# One reading and one all-reduce

All statistics of the pool come from one reading of the input
([the mathematics](explanation/mathematics.md#statistics)), and what replicas have to
tell each other is the sum over their samples: one all-reduce a layer forward, and one
backward.

## What travels

A training step of ResNet-50, with {layers} normalization layers and {channels:,}
channels in all, on R replicas. Payload: bytes that a replica puts into its
collectives. Sent: bytes that it sends when they are rings, where an all-reduce of B
bytes sends 2 B (R - 1) / R in 2 (R - 1) messages and an all-gather B (R - 1) in R - 1.
On paper: counted by `python benchmarks/communication.py`, not measured.

| per layer | forward | backward |
|---|---|---|
| EN, synchronized | 1 all-reduce, 2 C + 1 float64 | the same |
| EN, not synchronized | the same, for the moving statistics | none |
| Keras's BatchNormalization, synchronized | 3 all-reduces, C float32 each | 2, C each |
| torch's SyncBatchNorm | 1 all-gather, 2 C + 1 float32 | 1 all-reduce, 2 C float32 |

A pool of K normalizers sends what batch normalization alone does: instance, layer and
group statistics need no other replica.

| | collectives | payload |{heads}
|---|---|---|{bars}
{rows}

EN has {extra:,} weights more than BatchNormalization, {share:.1%}, whose gradients
travel, too. That its sums are float64 costs {cost:.2%} of the gradients' bytes; they
keep the variance exact at any mean in one collective, whose size does not grow with R
(torch's does: its all-gather sends the row of every replica to all).
"""


def main():
    model = ResNet50()
    layers = [x for x in model.layers if isinstance(x, ExemplarNormalization)]
    count = len(layers)
    channels = sum(layer.moving_mean.shape[0] for layer in layers)
    pair = 2 * channels + count
    gradients = 4 * sum(w.shape.num_elements() for w in weights(model))
    baseline = 4 * sum(w.shape.num_elements() for w in weights(ResNet50(norm="bn")))

    def reduce(size, collectives):
        def ring(r):
            return 2 * size * (r - 1) / r, collectives * 2 * (r - 1)

        return ring

    def gather(size, collectives):
        return lambda r: (size * (r - 1), collectives * (r - 1))

    cases = {
        "EN": [reduce(8 * pair, count), reduce(8 * pair, count)],
        "EN, not synchronized": [reduce(8 * pair, count)],
        "Keras": [reduce(12 * channels, 3 * count), reduce(8 * channels, 2 * count)],
        "torch": [gather(4 * pair, count), reduce(8 * channels, count)],
        "gradients, EN": [reduce(gradients, 1)],
        "gradients, BN": [reduce(baseline, 1)],
    }
    collectives = [2 * count, count, 5 * count, 2 * count, 1, 1]
    payloads = [16 * pair, 8 * pair, 20 * channels, 4 * pair + 8 * channels]
    payloads += [gradients, baseline]
    rows = []
    for (name, parts), number, payload in zip(
        cases.items(), collectives, payloads, strict=True
    ):
        cells = []
        for r in REPLICAS:
            sent, messages = (sum(v) for v in zip(*(p(r) for p in parts), strict=True))
            cells.append(f"{sent / 1e6:,.2f} MB in {messages:,}")
        rows.append(
            f"| {name} | {number} | {payload / 1e6:.2f} MB | {' | '.join(cells)} |"
        )
    text = HEAD.format(
        layers=count,
        channels=channels,
        heads="".join(f" sent, R = {r} |" for r in REPLICAS),
        bars="---|" * len(REPLICAS),
        rows="\n".join(rows),
        extra=(gradients - baseline) // 4,
        share=gradients / baseline - 1,
        cost=8 * pair / gradients,
    )
    PATH.write_text(text, encoding="utf-8")
    print(text)


def weights(model):
    return [v.value for v in model.trainable_variables]


if __name__ == "__main__":
    main()
