"""Training speed against a plain float32 loop of the same model: `make bench` prints this table."""

from pathlib import Path

from paired import compare

HERE = Path(__file__).parent
SHAPES = {
    "tiny": {"layers": 4, "heads": 4, "width": 128, "context": 64, "rows": 12, "steps": 200, "warmup": 20},
    "baby": {"layers": 6, "heads": 6, "width": 384, "context": 256, "rows": 16, "steps": 8, "warmup": 2},
}


def main() -> None:
    """One line a shape."""
    print("| model | ours, tokens/s | plain fp32 loop | ratio (lowest to highest of the pairs) |")
    print("|---|---|---|---|")
    for name, shape in SHAPES.items():
        arguments = [part for key, value in shape.items() for part in (f"--{key}", str(value))]
        pair = compare(
            [str(HERE / "our_training.py"), *arguments],
            [str(HERE / "plain_loop.py"), *arguments],
            figure="tokens_per_s",
        )
        print(
            f"| {name} | {pair.a:,.0f} | {pair.b:,.0f} | {pair.ratio:.2f} ({pair.lowest:.2f} to {pair.highest:.2f}) |"
        )


main()
