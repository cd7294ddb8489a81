//! Real processes: this test program starts itself again, and the children die.

use super::{FUSE, files};
use crate::core::attempt::Attempt;
use crate::core::mode::Mode;
use crate::core::table::Outcome;
use crate::error::{Error, Kind};
use crate::shared_table::layout::LAYOUT;
use crate::shared_table::member::{Member, Tell, hash};
use crate::shared_table::system;
use crate::shared_table::table::Who;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Longer than any pause of the machine.
const LONG: Duration = Duration::from_secs(60);

struct Heard(Sender<Result<(u32, u64), Error>>);

impl Tell for Heard {
    fn granted(&self, _: u32, number: u32, token: u64) {
        let _ = self.0.send(Ok((number, token)));
    }
    fn lost(&self, _: u32, _: u32, error: Error) {
        let _ = self.0.send(Err(error));
    }
    fn failed(&self, _: u32, _: u32, error: Error) {
        let _ = self.0.send(Err(error));
    }
}

/// A member, and what it is told.
struct Joined {
    member: Arc<Member>,
    heard: Receiver<Result<(u32, u64), Error>>,
}

impl Joined {
    fn new(folder: &Path) -> Self {
        let (sender, heard) = channel();
        let member = Member::join(Some(folder), "host", Arc::new(Heard(sender))).unwrap();
        Self { member, heard }
    }

    fn ask(&self, id: &str, number: u32, mode: Mode) -> Outcome {
        self.member
            .request(
                id,
                &hash(id),
                mode,
                Attempt::Wait,
                &Who {
                    environment: 1,
                    number,
                    ..Who::default()
                },
            )
            .unwrap()
    }

    /// Takes the lock, however long that takes: its token.
    fn take(&self, id: &str, number: u32, mode: Mode) -> u64 {
        match self.ask(id, number, mode) {
            Outcome::Granted(_, token) => token.0,
            _ => self.wait(number),
        }
    }

    fn wait(&self, number: u32) -> u64 {
        let (told, token) = self.heard.recv_timeout(LONG).expect("a waiter is forgotten").unwrap();
        assert_eq!(told, number);
        token
    }

    fn give(&self, number: u32) {
        self.member.release(1, number).unwrap();
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ipc-mutex-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child that plays a part; `steps` is when it dies in it.
fn child(folder: &Folder, part: &str, steps: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "shared_table::tests::killed::part",
            "--exact",
            "--nocapture",
            "--ignored",
        ])
        .env("IPC_MUTEX_PART", format!("{part} {steps} {}", folder.0.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "only in a child process"]
fn part() {
    let Ok(part) = std::env::var("IPC_MUTEX_PART") else {
        return;
    };
    let [part, steps, folder] = part.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        panic!()
    };
    let (steps, folder) = (steps.parse().unwrap(), Path::new(folder));
    match part {
        "everything" => {
            FUSE.set(Some((steps, true)));
            let joined = Joined::new(folder);
            for mode in [Mode::Exclusive, Mode::Shared] {
                joined.ask("a", 1, mode);
                joined.ask("a", 2, mode);
                joined.member.cancel(1, 2);
                joined.give(1);
            }
        }
        "release" | "hold" => {
            let joined = Joined::new(folder);
            joined.take("a", 1, Mode::Exclusive);
            println!("holds");
            std::io::stdin().lines().next().unwrap().unwrap();
            if part == "release" {
                FUSE.set(Some((steps, true)));
                joined.give(1);
                std::process::abort();
            }
        }
        "contend" => {
            let joined = Joined::new(folder);
            let witness = File::options()
                .read(true)
                .write(true)
                .open(folder.join("witness"))
                .unwrap();
            for number in 1.. {
                let token = joined.take("a", number, Mode::Exclusive);
                assert!(
                    system::try_lock(&witness, system::WRITE, 0).unwrap(),
                    "two hold the lock"
                );
                let mut last = [0; 8];
                witness.read_exact_at(&mut last, 0).unwrap();
                assert!(u64::from_le_bytes(last) < token, "a token went back");
                witness.write_all_at(&token.to_le_bytes(), 0).unwrap();
                system::lock(&witness, system::NONE, 0).unwrap();
                joined.give(number);
                if number % 64 == 0 {
                    println!("on");
                }
            }
        }
        _ => panic!("{part}"),
    }
    std::process::exit(0);
}

#[test]
fn a_process_that_dies_at_any_step_leaves_a_table_that_works() {
    let folder = Folder::new("steps");
    let own = Joined::new(&folder.0);
    let mut number = 0;
    let mut steps = 0;
    loop {
        let ended = child(&folder, "everything", steps).wait().unwrap();
        number += 1;
        own.take("a", number, Mode::Exclusive);
        own.give(number);
        let (held, pending) = own.member.snapshot(&hash("a")).unwrap();
        assert_eq!((held.len(), pending.len()), (0, 0), "after {steps} steps");
        if ended.success() {
            break;
        }
        steps += 3;
    }
    assert!(steps > 200, "{steps}");
}

#[test]
fn whoever_waits_for_a_process_that_dies_in_its_release_is_granted() {
    let folder = Folder::new("release");
    let own = Joined::new(&folder.0);
    for steps in (0..120).step_by(6) {
        let mut holder = child(&folder, "release", steps);
        let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().ends_with("holds")));
        assert!(matches!(own.ask("a", steps + 1, Mode::Exclusive), Outcome::Queued(_)));
        assert!(matches!(own.ask("a", steps + 2, Mode::Exclusive), Outcome::Queued(_)));
        writeln!(holder.stdin.take().unwrap()).unwrap();
        own.wait(steps + 1);
        own.give(steps + 1);
        own.wait(steps + 2);
        own.give(steps + 2);
        holder.wait().unwrap();
    }
}

#[test]
fn killed_processes_never_make_two_holders_or_a_forgotten_waiter() {
    let folder = Folder::new("contend");
    std::fs::write(folder.0.join("witness"), [0; 8]).unwrap();
    // Keeps the table when all others are dead.
    let own = Joined::new(&folder.0);
    let start = || {
        let mut child = child(&folder, "contend", 0);
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, said)
    };
    let mut children: Vec<_> = (0..3).map(|_| start()).collect();
    let begin = Instant::now();
    let mut kills = 0;
    while kills < 60 && begin.elapsed() < LONG {
        let (mut child, mut said) = children.remove(0);
        assert!(
            said.any(|line| line.is_ok_and(|line| line.ends_with("on"))),
            "a child ended by itself"
        );
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGKILL)
        );
        kills += 1;
        children.push(start());
    }
    for (mut child, mut said) in children {
        assert!(
            said.any(|line| line.is_ok_and(|line| line.ends_with("on"))),
            "a child ended by itself"
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
    own.take("a", 1, Mode::Exclusive);
    own.give(1);
    assert!(kills >= 10);
}

#[test]
fn a_deleted_folder_ends_holds_and_waits_and_the_next_table_has_larger_tokens() {
    let folder = Folder::new("deleted");
    let own = Joined::new(&folder.0);
    let token = own.take("a", 1, Mode::Exclusive);
    assert!(matches!(own.ask("a", 2, Mode::Exclusive), Outcome::Queued(_)));
    std::fs::remove_dir_all(&folder.0).unwrap();
    let mut kinds: Vec<_> = (0..2)
        .map(|_| own.heard.recv_timeout(LONG).unwrap().unwrap_err().kind)
        .collect();
    kinds.sort_by_key(|kind| kind.code());
    assert_eq!(kinds, [Kind::LockLost, Kind::Server]);
    assert!(own.member.is_lost() && !own.member.is_held(1, 1));
    assert_eq!(own.member.release(1, 1).unwrap_err().kind, Kind::LockLost);
    std::fs::create_dir(&folder.0).unwrap();
    let next = Joined::new(&folder.0);
    assert!(next.take("a", 1, Mode::Exclusive) > token);
}

#[test]
fn a_table_whose_gate_was_deleted_alone_stays_the_same() {
    let folder = Folder::new("gate");
    let own = Joined::new(&folder.0);
    own.take("a", 1, Mode::Exclusive);
    std::fs::remove_file(folder.0.join("gate")).unwrap();
    let other = Joined::new(&folder.0);
    assert!(matches!(other.ask("a", 1, Mode::Exclusive), Outcome::Queued(_)));
    own.give(1);
    other.wait(1);
}

#[test]
fn folders_that_cannot_be_trusted_or_shared_are_refused() {
    let folder = Folder::new("refused");
    let refusal = |path: &Path| files::open(Some(path)).err().map(|error| error.kind);
    assert_eq!(refusal(&folder.0.join("missing")), Some(Kind::Server));
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(&folder.0, &link).unwrap();
    assert_eq!(refusal(&link), Some(Kind::Server));
    assert_eq!(refusal(Path::new("/proc/self")), Some(Kind::Server));
    // Another layout lives.
    let gate = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.0.join("gate"))
        .unwrap();
    let other = u64::from(LAYOUT) + 1;
    assert!(system::try_lock(&gate, system::WRITE, other).unwrap());
    assert_eq!(refusal(&folder.0), Some(Kind::Server));
    system::lock(&gate, system::NONE, other).unwrap();
    assert_eq!(refusal(&folder.0), None);
}
