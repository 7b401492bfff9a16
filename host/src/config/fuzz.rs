//! What the fuzz target `config` in `tests/fuzz` runs, here so that the ordinary tests
//! can replay its corpus.

use std::ffi::OsString;

use super::error::{Problem, Problems};
use super::load::{Sources, read_from};
use super::redact::Secrets;
use super::source::{Fault, World};

/// Reads any bytes as a config, in a world in which every file, every URL and the
/// variables `SELF` and `WEB` hold the same bytes again, and `PORT` and `LIST` hold what
/// their names say. Neither does it panic nor take for ever; what is read can be printed.
pub fn config(input: &[u8]) {
    let variable = |name: &str| -> Option<OsString> {
        match name {
            "PORT" => Some("4317".into()),
            "LIST" => Some("[a, ${PORT}]".into()),
            "CONFIG" | "SELF" => Some(String::from_utf8_lossy(input).into_owned().into()),
            _ => None,
        }
    };
    let file = |path: &str| match path {
        "none" => Err(Fault::new("there is no file", "")),
        _ => Ok(input.to_vec()),
    };
    let fetch = |_: &str, _: usize| Ok(input.to_vec());
    let world = World { variable: &variable, file: &file, fetch: &fetch };
    let sets = [String::from_utf8_lossy(input.get(..64).unwrap_or(input)).into_owned()];
    for (uris, sets) in [(vec!["config"], &[][..]), (vec!["config", "env:CONFIG"], &sets[..])] {
        let uris: Vec<String> = uris.into_iter().map(str::to_owned).collect();
        for both in [false, true] {
            let problems = Problems::new();
            let sources =
                Sources { uris: &uris, sets, append_lists: both, traces_only: both, fetch: &fetch, seen: &|_, _| {} };
            let Some(config) = read_from(sources, world, &problems) else {
                assert!(problems.has_errors(), "nothing was read, and no reason is told");
                continue;
            };
            assert!(config.downstream_first().len() <= config.service.pipelines.len());
            for secrets in [Secrets::Hidden, Secrets::Shown] {
                let printed = serde_yaml::to_string(&serde_yaml::Value::from(&config.merged(secrets)));
                assert!(printed.is_ok(), "what was read cannot be printed");
            }
            config.warnings.iter().map(Problem::to_string).for_each(drop);
            drop(problems.finish().map_err(|errors| errors.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::config;

    fn corpus() -> Vec<PathBuf> {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/config");
        let entries: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(entries.len() >= 8, "the corpus is part of the tree");
        entries
    }

    #[test]
    fn the_corpus_holds() {
        for path in corpus() {
            config(&std::fs::read(path).unwrap());
        }
    }

    #[test]
    fn so_does_what_is_made_of_it_by_chance() {
        const PARTS: [&[u8]; 12] =
            [b"${SELF}", b"${", b"}", b"$$", b"::", b": ", b"- ", b"\n  ", b"&a ", b"*a", b"[{", b"\"\\u00"];
        // The one that grows exponentially takes its time.
        let texts: Vec<_> = corpus().into_iter().filter(|path| !path.ends_with("laughs.yaml")).collect();
        let texts: Vec<_> = texts.iter().map(|path| std::fs::read(path).unwrap()).collect();
        for seed in 0..300 {
            // A failure names the seed in its backtrace's output.
            println!("seed {seed}");
            let mut chance = fastrand::Rng::with_seed(seed);
            let mut text = chance.choice(&texts).unwrap().clone();
            for _ in 0..chance.usize(1..8) {
                let at = chance.usize(..=text.len());
                let to = (at + chance.usize(..6)).min(text.len());
                let part = chance.choice(PARTS).unwrap();
                text.splice(at..to, part.iter().copied());
            }
            config(&text);
        }
    }
}
