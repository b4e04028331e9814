"""Every benchmark, one after the other. Ratios are of one run on one machine; no test depends on them."""

from tests.benchmarks import comparing, decrypting, load, reading, serving

if __name__ == "__main__":
    for benchmark in (comparing, serving, load, decrypting, reading):
        print(f"\n— {(benchmark.__doc__ or '').splitlines()[0]}")
        benchmark.main()
