//! The bodies of the fuzz targets, over the inputs that the fuzzer has left in `fuzz/corpus`. See `fuzz/README.md`.

#[path = "../../../fuzz/src/lib.rs"]
#[allow(dead_code, unreachable_pub, reason = "written for another crate, the fuzzer's")]
mod fuzz;

use fuzz::{Sabotage, TARGETS};
use std::panic::catch_unwind;
use std::path::Path;

/// The inputs of a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    files.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn every_input_of_the_corpus_holds() {
    for (target, body) in TARGETS {
        let inputs = corpus(target);
        assert!((10..60).contains(&inputs.len()), "{target} has a corpus of {} inputs", inputs.len());
        for (name, input) in inputs {
            assert!(catch_unwind(|| body(&input)).is_ok(), "{name}");
        }
    }
}

/// Negative control: a session that breaks a promise does not get through the same corpus.
#[test]
fn every_sabotage_is_caught() {
    let inputs = corpus("server_frames");
    let missed = Sabotage::ALL.iter().filter(|sabotage| {
        !inputs.iter().any(|(_, input)| catch_unwind(|| fuzz::sabotaged(input, **sabotage)).is_err())
    });
    let missed: Vec<_> = missed.collect();
    assert!(missed.is_empty(), "{missed:?} came through");
}
