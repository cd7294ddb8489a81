//! Where the table is, who may use it, and when it begins anew.

use super::layout::{BYTES, FIXED_WORDS, HEADER_LAYOUT, HEADER_MAGIC, LAST_TOKEN, LAYOUT, LIVES, MUTEX, UNDO};
use super::memory::Memory;
use super::system;
use super::table::Table;
use crate::clock;
use crate::error::{Error, Kind, Result};
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// File systems whose files several machines or a machine and its guests can write, and whose mapped memory is then not the same for all:
/// NFS, SMB (three), 9p, FUSE and virtiofs, Ceph, AFS, Coda, OCFS2, GFS2.
const NOT_COHERENT: [u32; 11] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x0102_1997,
    0x6573_5546,
    0x00c3_6400,
    0x5346_414f,
    0x7375_7245,
    0x7461_636f,
    0x0116_1970,
];

/// Bytes of the gate: who comes in, and then one per layout.
const ENTRANCE: u64 = 0;
const LAYOUTS: u64 = 255;

/// The files of one folder, open, with this process inside.
pub struct Files {
    pub folder: PathBuf,
    /// What the files get from the folder.
    rights: Rights,
    /// Its locks: the table's mutex, and the lives of the members.
    pub file: Arc<File>,
    pub table: Table,
    /// Kept open for the lock that says: a process with this layout lives.
    gate: File,
}

impl Files {
    /// Whether the folder still has this table. Once it has not, others make another one. A folder that cannot be looked at says nothing.
    pub fn are_in_place(&self) -> bool {
        match (self.file.metadata(), self.path().symlink_metadata()) {
            // A touch behind the end of a truncated file would kill the process.
            (Ok(ours), _) if ours.len() != BYTES as u64 => false,
            (Ok(ours), Ok(there)) => ours.dev() == there.dev() && ours.ino() == there.ino(),
            (_, Err(error)) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
            _ => true,
        }
    }

    pub fn path(&self) -> PathBuf {
        table_in(&self.folder)
    }

    /// The FIFO of a slot, for both sides.
    pub fn fifo(&self, slot: u32) -> io::Result<File> {
        let path = self.folder.join(format!("wake-{slot}"));
        let is_new = match system::make_fifo(&path, self.rights.mode) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let fifo = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(path)?;
        let is_fifo = std::os::unix::fs::FileTypeExt::is_fifo(&fifo.metadata()?.file_type());
        if !is_fifo {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if is_new {
            self.rights.give(&fifo)?;
        }
        Ok(fifo)
    }

    /// Lets others in, when this process is a member.
    pub fn entered(&self) -> io::Result<()> {
        system::lock(&self.gate, system::NONE, ENTRANCE)
    }
}

/// Who may use the files: whoever may use the folder, whatever the umask of who makes them, and whoever that is.
#[derive(Clone, Copy)]
struct Rights {
    mode: u32,
    user: u32,
    group: u32,
}

impl Rights {
    fn of(folder: &Metadata) -> Self {
        Self {
            mode: folder.mode() & 0o666,
            user: folder.uid(),
            group: folder.gid(),
        }
    }

    fn give(&self, file: &File) -> io::Result<()> {
        // Only root gives a file away, and only a member of a group gives it to the group.
        if fchown(file, Some(self.user), Some(self.group)).is_err() {
            let _ = fchown(file, None, Some(self.group));
        }
        file.set_permissions(Permissions::from_mode(self.mode))
    }
}

fn table_in(folder: &Path) -> PathBuf {
    folder.join(format!("table-{LAYOUT}"))
}

/// The folder of this process's user: by the effective user alone, so that no difference of environments makes two tables.
pub fn own_folder() -> PathBuf {
    let user = system::effective_user();
    match system::home_of(user).filter(|_| user >= 1000) {
        Some(home) => home.join(".local/state/ipc-mutex"),
        None => PathBuf::from(format!("/dev/shm/ipc-mutex-{user}")),
    }
}

/// Opens the table in a folder, and makes it if there is none. Nobody else comes in until [`Files::entered`].
pub fn open(given: Option<&Path>) -> Result<Files> {
    let folder = given.map_or_else(own_folder, Path::to_path_buf);
    let failed = |what: &str, error: io::Error| refused(&folder, what).because(error);
    if given.is_none() {
        make_folder(&folder).map_err(|error| failed("cannot be made", error))?;
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(&folder)
        .map_err(|error| failed("cannot be opened", error))?;
    let status = opened.metadata().map_err(|error| failed("cannot be read", error))?;
    if given.is_none() && (status.uid() != system::effective_user() || status.mode() & 0o077 != 0) {
        return Err(refused(&folder, "must belong to this user and have mode 0700"));
    }
    let kind = system::file_system(&opened).map_err(|error| failed("cannot be read", error))?;
    if NOT_COHERENT.contains(&kind) {
        return Err(refused(
            &folder,
            "is on a network or guest file system, which cannot share memory",
        ));
    }
    enter(&folder, Rights::of(&status)).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => refused(
            &folder,
            "is in use by processes with another version of this package: end them first",
        ),
        _ => failed("cannot be used", error),
    })
}

fn enter(folder: &Path, rights: Rights) -> io::Result<Files> {
    let gate = loop {
        let path = folder.join("gate");
        let gate = open_gate(&path, rights)?;
        system::lock(&gate, system::WRITE, ENTRANCE)?;
        // The folder may have been deleted while this one waited.
        let (ours, there) = (gate.metadata()?, path.symlink_metadata()?);
        if ours.dev() == there.dev() && ours.ino() == there.ino() {
            break gate;
        }
    };
    let layout = u64::from(LAYOUT);
    for (first, count) in [(1, layout - 1), (layout + 1, LAYOUTS - layout)] {
        // A length of 0 would mean: to the end of the file.
        if count > 0 && system::is_locked(&gate, system::WRITE, first, count)? {
            return Err(io::ErrorKind::AddrInUse.into());
        }
    }
    let file = Arc::new(open_file(&table_in(folder), rights)?);
    let table = prepare(&file)?;
    system::lock(&gate, system::READ, layout)?;
    Ok(Files {
        folder: folder.to_path_buf(),
        rights,
        file,
        table,
        gate,
    })
}

/// The table in its file, which begins anew if no member lives.
fn prepare(file: &Arc<File>) -> io::Result<Table> {
    // The gate may have been deleted alone, so the table is asked itself.
    let _locked = Locked::new(file)?;
    let is_used = system::is_locked(file, system::WRITE, LIVES, MUTEX - LIVES)?;
    if !is_used {
        // Nobody lives who knows what is in there. The first page stays for the last token, as the file ends there for a moment.
        let kept = file.metadata()?.len().min(4096);
        file.set_len(kept)?;
        file.set_len(BYTES as u64)?;
        system::reserve(file, 0, FIXED_WORDS * 4)?;
    } else if file.metadata()?.len() != BYTES as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let memory = Memory::new(system::map(file)?);
    let reserving = Arc::clone(file);
    let table = Table::new(
        memory,
        Box::new(move |start, length| system::reserve(&reserving, start, length).is_ok()),
    );
    if !is_used {
        let last = if table.is_formatted() {
            memory.load_long(LAST_TOKEN).unwrap_or_default()
        } else {
            0
        };
        // Whoever comes after a process that died here does it all again, with the token that is still there.
        for word in (0..UNDO).filter(|word| ![HEADER_MAGIC, HEADER_LAYOUT, LAST_TOKEN, LAST_TOKEN + 1].contains(word)) {
            memory.put(word, 0);
        }
        // Tokens also grow when the folder was deleted.
        table.format(last.max(clock::wall_ms().saturating_mul(1_000_000)));
    } else if !table.is_formatted() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(table)
}

/// The table's mutex, for as long as it lives.
pub struct Locked<'a>(&'a File);

impl<'a> Locked<'a> {
    pub fn new(file: &'a File) -> io::Result<Self> {
        system::lock(file, system::WRITE, MUTEX)?;
        Ok(Self(file))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = system::lock(self.0, system::NONE, MUTEX);
    }
}

/// The gate. Its first user may be about to let another user in; nobody makes other files but behind the gate.
fn open_gate(path: &Path, rights: Rights) -> io::Result<File> {
    let mut left = 20;
    loop {
        match open_file(path, rights) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && left > 0 => {
                left -= 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened,
        }
    }
}

/// A file for this process and all others that may use the folder, never through a link.
fn open_file(path: &Path, rights: Rights) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .mode(rights.mode)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.clone().create_new(true).open(path) {
        Ok(file) => {
            rights.give(&file)?;
            file
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path)?,
        Err(error) => return Err(error),
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    if folder.symlink_metadata().is_err() {
        builder.create(folder)?;
        // Whatever the umask; a folder that somebody else made in this moment is refused afterwards.
        std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn refused(folder: &Path, what: &str) -> Error {
    let message = format!(
        "lock folder {} {what}; another one can be named by ?dir=",
        folder.display()
    );
    Error::new(Kind::Server, message)
}
