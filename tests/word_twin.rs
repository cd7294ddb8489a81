//! `lib/cluster/word.js` and its twin in `tests/words/mod.rs`, which all other tests of lent memory use, make the same accesses in the same order,
//! whatever others do to the memory between any two of them. Needs `node`.

mod words;

use ipc_mutex::local::{self, words::INFLATED};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use words::{MARK, Memory, Word};

const OWN: u32 = 5;
const OTHER: u32 = 6;
const OWNER: u32 = 9;

const SIGN: usize = 1;
/// Where the words of two locks are, with more around them than they need, so that an access to a wrong place shows.
const PLACES: [usize; 2] = [2, 6];
const WORDS: usize = 10;

/// Calls of one mutex, and what others do meanwhile.
#[derive(Debug, Serialize)]
struct History {
    memory: [u32; WORDS],
    now: u64,
    /// Name of the method, and what the word is made with.
    calls: Vec<(&'static str, usize, u32, usize, u32)>,
    /// Before which access what is written where.
    changes: Vec<(usize, usize, u32)>,
}

/// A memory that writes down what is done to it, in the words of `tests/words/word.mjs`.
struct Traced<'a> {
    history: &'a History,
    memory: [Cell<u32>; WORDS],
    accesses: Cell<usize>,
    lines: RefCell<Vec<String>>,
}

impl Traced<'_> {
    fn access(&self, line: impl FnOnce() -> String) {
        for (access, at, value) in &self.history.changes {
            if *access == self.accesses.get() {
                self.memory[*at].set(*value);
            }
        }
        self.accesses.set(self.accesses.get() + 1);
        self.lines.borrow_mut().push(line());
    }
}

impl Memory for Traced<'_> {
    fn load(&self, at: usize) -> u32 {
        self.access(|| format!("load {at} -> {}", self.memory[at].get()));
        self.memory[at].get()
    }

    fn store(&self, at: usize, value: u32) {
        self.access(|| format!("store {at} {value}"));
        self.memory[at].set(value);
    }

    fn compare_exchange(&self, at: usize, from: u32, to: u32) -> u32 {
        self.access(|| format!("compareExchange {at} {from} {to} -> {}", self.memory[at].get()));
        let before = self.memory[at].get();
        if before == from {
            self.memory[at].set(to);
        }
        before
    }

    fn now(&self) -> u64 {
        self.history.now
    }
}

/// What the twin does in a history.
fn traced(history: &History) -> String {
    let memory = Traced {
        history,
        memory: history.memory.map(Cell::new),
        accesses: Cell::new(0),
        lines: RefCell::default(),
    };
    for (call, at, handle, sign, owner) in history.calls.iter().copied() {
        let word = Word {
            at,
            handle,
            sign,
            owner,
        };
        let answer = match call {
            "take" => word.take(&memory),
            "free" => word.free(&memory),
            _ => word.leave(&memory),
        };
        memory.lines.borrow_mut().push(format!("{call} = {answer}"));
    }
    let left: Vec<_> = memory.memory.iter().map(|word| word.get().to_string()).collect();
    memory.lines.borrow_mut().push(left.join(" "));
    memory.lines.take().join("; ")
}

/// Every call, and every two calls in a row, from every state of one lock, with up to two changes by others at any moment.
fn histories() -> Vec<History> {
    let at = PLACES[0];
    let single: Vec<Vec<_>> = ["take", "free", "leave"].iter().map(|call| vec![(*call, at)]).collect();
    let double = single
        .iter()
        .flat_map(|first| PLACES.map(|place| (first[0], place)))
        .flat_map(|(first, place)| single.iter().map(move |second| vec![first, (second[0].0, place)]));
    let courses: Vec<_> = single.iter().cloned().chain(double).collect();
    let events = [
        (at, 0),
        (at, OTHER),
        (at, INFLATED),
        (at + MARK, 0),
        (at + MARK, OTHER),
        (SIGN, 0),
    ];
    let moments = || (0..6).flat_map(|access| events.map(|(place, value)| (access, place, value)));
    let mut all = Vec::new();
    for course in &courses {
        let calls: Vec<_> = course.iter().map(|(call, at)| (*call, *at, OWN, SIGN, OWNER)).collect();
        for state in states() {
            let mut add = |changes: Vec<_>| {
                // The lower half of the time is also a negative number, and 0.
                let now = [1_700_000_000_000, (400 << 32) + 7, 400 << 32][all.len() % 3];
                all.push(History {
                    memory: state,
                    now,
                    calls: calls.clone(),
                    changes,
                });
            };
            add(Vec::new());
            for first in moments() {
                add(vec![first]);
                if course.len() == 1 {
                    for second in moments().filter(|second| second.0 >= first.0) {
                        add(vec![first, second]);
                    }
                }
            }
        }
    }
    all
}

/// The memory with the first lock's word and mark, and the sign, in every state.
fn states() -> Vec<[u32; WORDS]> {
    let mut states = Vec::new();
    for word in [0, OWN, OTHER, INFLATED] {
        for mark in [0, OWN, OTHER] {
            for sign in [OWNER, 0] {
                let mut memory = [0; WORDS];
                memory[PLACES[0]] = word;
                memory[PLACES[0] + MARK] = mark;
                memory[SIGN] = sign;
                states.push(memory);
            }
        }
    }
    states
}

fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("word_twin");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Where the class in a file does something else than the twin.
fn differences(class: &Path, histories: &[History]) -> usize {
    let list = class.with_extension("json");
    let list = folder().join(list.file_name().unwrap());
    fs::write(&list, serde_json::to_string(histories).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/words/word.mjs");
    let output = Command::new("node")
        .args([&script, class, &list])
        .output()
        .expect("node is needed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Vec<_> = told.lines().collect();
    assert_eq!(told.len(), histories.len());
    let mut report = String::new();
    let mut differences = 0;
    for (history, told) in histories.iter().zip(told) {
        let expected = traced(history);
        if told != expected {
            differences += 1;
            if differences <= 3 {
                writeln!(report, "{history:?}\n  twin       {expected}\n  JavaScript {told}").unwrap();
            }
        }
    }
    print!("{report}");
    differences
}

fn class() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lib/cluster/word.js")
}

#[test]
fn javascript_and_its_twin_make_the_same_accesses() {
    assert_eq!(differences(&class(), &histories()), 0);
}

/// What is wrong, the text of `word.js` that goes and the one that comes.
const FAULTS: [(&str, &str, &str); 7] = [
    (
        "the sign is looked at before the mark is read",
        "            const before = Atomics.load(this.#memory, this.#at + MARK)
            if (Atomics.load(this.#memory, this.#sign) !== this.#owner)
                return false
",
        "            if (Atomics.load(this.#memory, this.#sign) !== this.#owner)
                return false
            const before = Atomics.load(this.#memory, this.#at + MARK)
",
    ),
    (
        "the mark is overwritten blindly",
        "if (Atomics.compareExchange(this.#memory, this.#at + MARK, before, this.#handle) === before)",
        "Atomics.store(this.#memory, this.#at + MARK, this.#handle)\n            if (before !== undefined)",
    ),
    (
        "the mark is expected to be empty",
        "const before = Atomics.load(this.#memory, this.#at + MARK)",
        "const before = 0",
    ),
    (
        "the sign is looked at before the word is changed",
        "        if (Atomics.compareExchange(this.#memory, this.#at, 0, this.#handle) !== 0)
            return false
        if (Atomics.load(this.#memory, this.#sign) !== this.#owner) {
            this.free()
            return false
        }
",
        "        if (Atomics.load(this.#memory, this.#sign) !== this.#owner)
            return false
        if (Atomics.compareExchange(this.#memory, this.#at, 0, this.#handle) !== 0)
            return false
",
    ),
    (
        "the word stays when the sign is gone",
        "            this.free()\n            return false",
        "            return false",
    ),
    (
        "the time is cleared when others may have the lock",
        "        Atomics.store(this.#memory, this.#at + SINCE, 0)
        return Atomics.compareExchange(this.#memory, this.#at, this.#handle, 0) === this.#handle",
        "        const freed = Atomics.compareExchange(this.#memory, this.#at, this.#handle, 0) === this.#handle
        Atomics.store(this.#memory, this.#at + SINCE, 0)
        return freed",
    ),
    (
        "a time whose lower half is 0 counts as unknown",
        "Date.now() | 0 || 1",
        "Date.now() | 0",
    ),
];

#[test]
fn every_known_fault_of_the_class_makes_a_difference() {
    let correct = fs::read_to_string(class()).unwrap();
    // A part of them is enough, and takes less time.
    let histories: Vec<_> = histories().into_iter().step_by(7).collect();
    for (number, (fault, old, new)) in FAULTS.into_iter().enumerate() {
        assert!(correct.contains(old), "word.js has changed; adapt: {fault}");
        let broken = folder().join(format!("fault{number}.js"));
        fs::write(&broken, correct.replace(old, new)).unwrap();
        assert!(differences(&broken, &histories) > 0, "not caught: {fault}");
    }
}
