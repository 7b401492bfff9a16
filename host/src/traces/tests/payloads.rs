//! Requests that real clients sent, where they are at hand, and the corpus of
//! the fuzz targets.

use std::fs;
use std::path::{Path, PathBuf};

use super::edits::two_rounds;
use super::model::Model;
use super::reads::assert_reads;
use super::{Case, decode, noise};
use crate::traces::fuzz::{self, Choices};

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

#[test]
fn captured_requests_are_kept_and_edited_as_prost_would() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/payloads");
    for (path, wire) in files(&folder) {
        if path.extension().is_none_or(|extension| extension != "pb") {
            continue;
        }
        let case = Case { decoded: decode(&wire), wire };
        assert_eq!(case.batch().finish()[0].message.bytes(), case.wire, "{}", path.display());
        assert_reads(case.batch().index().unwrap(), &Model::new(case.decoded.clone()));
        for seed in 1..=8_u64 {
            two_rounds(&case, &mut Choices::new(&noise(seed, 4000)));
        }
    }
}

#[test]
fn the_fuzz_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    assert!(corpus.join("walk/plain.bin").is_file(), "the corpus is part of the tree");
    for (_, input) in files(&corpus.join("walk")) {
        fuzz::walk(&input);
    }
    for (_, input) in files(&corpus.join("splice")) {
        fuzz::splice(&input);
    }
    assert!(corpus.join("json/plain.json").is_file(), "the corpus is part of the tree");
    for (_, input) in files(&corpus.join("json")) {
        fuzz::json(&input);
    }
}
