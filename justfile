# The recipes that people and CI run. `just` lists them.

_list:
    @just --list --unsorted

# Serve rooms in development mode, with the page at http://127.0.0.1:8080/
serve *flags:
    cargo run --quiet --package saywhy-cli -- serve {{flags}}

# Everything that CI tests: Rust, then real browsers and real peers against the real binary
test: (build "dev")
    cargo test --workspace --quiet
    npm --prefix clients/typescript test
    npm --prefix tests test

# Formatting, lints, and documentation without warnings
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --quiet -- -D warnings
    cargo check --manifest-path bench/Cargo.toml --target-dir target/bench --quiet --locked
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
    @command -v cargo-deny >/dev/null && cargo deny --offline check licenses bans sources || echo "cargo-deny is not installed: licences and sources were not checked"

# Write anew what is made from the sources: the catalogue, the schema and the tables of the configuration
generate:
    cargo run --quiet --package saywhy-codes --example generate
    UPDATE=1 cargo test --quiet --package saywhy-cli --test check --test explain --test fault
    npm --prefix clients/typescript run generate
    node clients/typescript/scripts/page.mjs

# Bytes of resident memory per idle connection
idle count="10000": (build "release")
    node bench/idle/idle.mjs {{count}}

# Ours next to its peers: CPU per unit of work, resident memory; `just bench --help`
bench *args:
    bench/run {{args}}

# What each breach of RFC 6455 is answered with: ours has to be right, its peers are measured
violations *args:
    conformance/violations/run {{args}}

# What clients see of each fault of a back end, through the gateway and through other proxies
gateway *args:
    conformance/gateway/run {{args}}

# Autobahn's cases against our server and our client: `just autobahn 1-7 9 10`, or all 517
autobahn *cases:
    conformance/autobahn/run {{cases}}

# What one client that means harm costs, ours next to its peers: ours has to stay flat
floods *args:
    bench/floods {{args}}

# Every fuzz target for so many seconds
fuzz seconds="60":
    fuzz/run {{seconds}}

# The binary that the tests drive
[private]
build profile:
    cargo build --quiet --package saywhy-cli --profile {{profile}}
