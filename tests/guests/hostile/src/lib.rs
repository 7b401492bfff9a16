//! A plugin that misbehaves on demand. Its config:
//!
//! ```json
//! {"mode": "trap", "every": 3, "only_if_name": "poison"}
//! ```
//!
//! `every` lets it misbehave on every Nth call of `process` only, counted per
//! instance; `only_if_name` only when some span of the batch has that name.
//! Otherwise it passes the batch unchanged. The modes of `process`:
//!
//! | mode | what it does |
//! |---|---|
//! | `loop` | never returns |
//! | `allocate` | grows its memory until that is refused, then traps |
//! | `leak` | keeps 1 MiB more, and returns |
//! | `trap` | executes `unreachable` |
//! | `panic` | panics with a message |
//! | `error` | returns the rejection `no, thanks` |
//! | `edit-then-error` | drops every span, then returns the rejection `no, thanks` |
//! | `edit-then-trap` | drops every span, then executes `unreachable` |
//! | `bad-row` | sets an attribute on a row past the last one |
//! | `short-values` | sets texts with fewer values than rows |
//! | `short-names` | sets names with fewer names than rows |
//! | `short-codes` | sets coded texts with fewer codes than rows |
//! | `bad-codes` | names a text beyond the dictionary |
//! | `bad-packed-descending` | a dictionary whose ends descend |
//! | `bad-packed-beyond` | a dictionary whose last end lies beyond its data |
//! | `bad-packed-split` | a dictionary whose end splits a UTF-8 character |
//! | `bad-packed-not-utf8` | a dictionary whose data is no UTF-8 |
//! | `not-utf8` | hands over a string that is no UTF-8 |
//! | `out-of-bounds` | hands over a string that lies outside of its memory |
//! | `bad-status` | sets status code 3 |
//! | `bad-json` | sets a value of kind JSON that is no JSON |
//! | `bad-pattern` | searches with a pattern that was never compiled |
//! | `late-compile` | compiles a pattern outside of `configure`, returns its error as the rejection |
//! | `bad-counter` | adds -1 and a NaN to a counter |
//! | `huge-key` | sets an attribute with a key of 1 MiB |
//! | `huge-batch-read` | reads every text attribute 10,000 times |
//! | `sleep` | sleeps an hour |
//! | `recurse` | overflows its stack |
//! | `log-flood` | writes 1,000,000 log lines |
//! | `metric-flood` | adds to 100,000 counters of distinct names |
//! | `print` | writes one line each to standard output and standard error |
//! | `exit` | exits the process with code 3, of which WASI 0.2 tells only that it is a failure |
//!
//! The modes of `configure`, which ignore `every` and `only_if_name`:
//!
//! | mode | what it does |
//! |---|---|
//! | `configure-error` | rejects its config: `this config is not for me` |
//! | `configure-trap` | executes `unreachable` |
//! | `configure-loop` | never returns |
//! | `read-in-configure` | asks for the span count where there is no batch |
//!
//! Another mode is rejected by `configure`.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::time::Duration;

use exports::vespid::plugin::processor::Guest;
use serde::Deserialize;
use vespid::plugin::types::{LogLevel, Owner, Packed, Value};
use vespid::plugin::{batch, edits, host, patterns};

wit_bindgen::generate!({ path: "../../../wit", world: "span-processor" });

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    mode: Mode,
    every: Option<u64>,
    only_if_name: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Loop,
    Allocate,
    Leak,
    Trap,
    Panic,
    Error,
    EditThenError,
    EditThenTrap,
    BadRow,
    ShortValues,
    ShortNames,
    ShortCodes,
    BadCodes,
    BadPackedDescending,
    BadPackedBeyond,
    BadPackedSplit,
    #[serde(rename = "bad-packed-not-utf8")]
    BadPackedNotUtf8,
    #[serde(rename = "not-utf8")]
    NotUtf8,
    OutOfBounds,
    BadStatus,
    BadJson,
    BadPattern,
    LateCompile,
    BadCounter,
    HugeKey,
    HugeBatchRead,
    Sleep,
    Recurse,
    LogFlood,
    MetricFlood,
    Print,
    Exit,
    ConfigureError,
    ConfigureTrap,
    ConfigureLoop,
    ReadInConfigure,
}

thread_local! {
    static CONFIG: RefCell<Option<Config>> = const { RefCell::new(None) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Hostile;

impl Guest for Hostile {
    fn configure(config: String) -> Result<(), String> {
        let config: Config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        match config.mode {
            Mode::ConfigureError => return Err("this config is not for me".to_owned()),
            Mode::ConfigureTrap => trap(),
            Mode::ConfigureLoop => spin(),
            Mode::ReadInConfigure => {
                black_box(batch::span_count());
            }
            _ => {}
        }
        CONFIG.set(Some(config));
        Ok(())
    }

    fn process() -> Result<(), String> {
        let call = CALLS.get() + 1;
        CALLS.set(call);
        let config = CONFIG.with_borrow(Clone::clone).ok_or("not configured")?;
        let due = config.every.is_none_or(|every| call.is_multiple_of(every));
        let named = |name: &String| batch::names().contains(name);
        if due && config.only_if_name.as_ref().is_none_or(named) {
            return misbehave(config.mode);
        }
        Ok(())
    }
}

export!(Hostile);

fn misbehave(mode: Mode) -> Result<(), String> {
    let rows: Vec<u32> = (0..batch::span_count()).collect();
    match mode {
        Mode::Loop => spin(),
        Mode::Allocate => allocate(),
        Mode::Leak => std::mem::forget(black_box(vec![1u8; 1 << 20])),
        Mode::Trap => trap(),
        Mode::Panic => panic!("the hostile guest panics"),
        Mode::Error => return Err("no, thanks".to_owned()),
        Mode::EditThenError => {
            edits::drop_spans(&rows, "hostile");
            return Err("no, thanks".to_owned());
        }
        Mode::EditThenTrap => {
            edits::drop_spans(&rows, "hostile");
            trap();
        }
        Mode::NotUtf8 => raw_log(&[b'a', 0xff, b'b']),
        Mode::OutOfBounds => raw::log_at(usize::MAX - 15, 8),
        Mode::LateCompile => return patterns::compile("a").map(|_| ()),
        Mode::HugeBatchRead => {
            for _ in 0..10_000 {
                black_box(batch::text_columns_packed(Owner::Span));
            }
        }
        Mode::Sleep => std::thread::sleep(Duration::from_secs(3600)),
        Mode::Recurse => {
            black_box(recurse(black_box(1)));
        }
        Mode::LogFlood => {
            for line in 0..1_000_000 {
                host::log(LogLevel::Warn, &format!("line {line} of a flood"));
            }
        }
        Mode::MetricFlood => {
            for number in 0..100_000 {
                host::counter_add(&format!("hostile_{number}"), &[], 1.0);
            }
        }
        Mode::Print => {
            println!("the hostile guest prints");
            eprintln!("the hostile guest prints an error");
        }
        Mode::Exit => std::process::exit(3),
        Mode::ConfigureError | Mode::ConfigureTrap | Mode::ConfigureLoop | Mode::ReadInConfigure => {}
        other => edit_wrongly(other, &rows),
    }
    Ok(())
}

/// Calls that the host must answer with a trap, whatever the batch.
fn edit_wrongly(mode: Mode, rows: &[u32]) {
    let text = |text: &str| Value::Text(text.to_owned());
    let packed = |data: &[u8], ends: &[u32]| Packed { data: data.to_vec(), ends: ends.to_vec() };
    let set_coded = |codes: &[u32], dictionary: Packed| {
        let rows = vec![0; codes.len()];
        edits::set_text_attribute_coded(Owner::Span, &rows, "k", codes, &dictionary);
    };
    match mode {
        Mode::BadRow => {
            let past = [rows.len() as u32];
            edits::set_attribute(Owner::Span, &past, "k", &text("v"));
        }
        Mode::ShortValues => {
            edits::set_text_attribute(Owner::Span, &[0, 0], "k", &["one".to_owned()]);
        }
        Mode::ShortNames => edits::set_names(&[0, 0], &["one".to_owned()]),
        Mode::ShortCodes => {
            let dictionary = packed(b"ab", &[1, 2]);
            edits::set_text_attribute_coded(Owner::Span, &[0, 0], "k", &[0], &dictionary);
        }
        Mode::BadCodes => set_coded(&[0, 7], packed(b"ab", &[1, 2])),
        Mode::BadPackedDescending => set_coded(&[0, 1], packed(b"abcd", &[3, 1])),
        Mode::BadPackedBeyond => set_coded(&[0, 1], packed(b"ab", &[1, 4096])),
        Mode::BadPackedSplit => set_coded(&[0, 1], packed("é".as_bytes(), &[1, 2])),
        Mode::BadPackedNotUtf8 => set_coded(&[0], packed(&[b'a', 0xff], &[2])),
        Mode::BadStatus => edits::set_status(&[0], 3, ""),
        Mode::BadJson => {
            let json = Value::Json("{\"intValue\": ".to_owned());
            edits::set_attribute(Owner::Span, &[0], "k", &json);
        }
        Mode::BadPattern => {
            patterns::replace_matches(Owner::Span, &[4096], "****");
        }
        Mode::BadCounter => {
            host::counter_add("hostile", &[], -1.0);
            host::counter_add("hostile", &[], f64::NAN);
        }
        Mode::HugeKey => {
            let key = "k".repeat(1 << 20);
            edits::set_attribute(Owner::Span, rows, &key, &text("v"));
        }
        _ => {}
    }
}

fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

/// Grows the memory page by page of 64 KiB; touches each, so that it is real.
fn allocate() -> ! {
    use core::arch::wasm32::{memory_grow, unreachable};
    const PAGE: usize = 65_536;
    loop {
        let page = memory_grow::<0>(1);
        if page == usize::MAX {
            unreachable();
        }
        // SAFETY: the page has just been added and belongs to nobody else.
        unsafe { ((page * PAGE) as *mut u8).write_volatile(1) };
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + black_box(frame[0])
}

fn raw_log(bytes: &[u8]) {
    raw::log_at(bytes.as_ptr() as usize, bytes.len());
}

/// The log function by its core signature, for strings that a `&str` cannot be.
mod raw {
    #[link(wasm_import_module = "vespid:plugin/host@0.1.0")]
    unsafe extern "C" {
        #[link_name = "log"]
        fn log(level: i32, address: usize, length: usize);
    }

    /// Logs whatever bytes lie there, at level info.
    pub fn log_at(address: usize, length: usize) {
        // SAFETY: the host checks the range and the encoding, and traps.
        unsafe { log(2, address, length) }
    }
}
