"use strict"

// What --help prints.

const IPC_MUTEX = `Locks that reach from process to process and from machine to machine.

Usage: ipc-mutex exec [options] <url> -- <command> [args...]
       ipc-mutex status [options] <url>

  exec     runs a command while a lock is held
  status   shows who holds a lock and who waits for it

  -h, --help      this text; after a command's name, that command's, as with
                  help <command>
  -v, --version   the version

<url> names the lock, such as lpm:nightly-report on this machine,
rpm+redis://db.example/nightly-report or
rpm+pgsql://user:password@db.example/app/nightly-report. It may be left out if
the environment variable IPC_MUTEX_URL is set, which keeps a password out of
the list of processes.
`

const EXEC = `Runs a command while a lock is held: at most one at a time, on all machines.

Usage: ipc-mutex exec [options] <url> -- <command> [args...]

  -x, --exclusive       take the exclusive lock (default)
  -s, --shared          take a shared lock
  -n, --nonblock        do not wait: if the lock is held, that is a conflict
  -w, --timeout <s>     wait at most this many seconds; then it is a conflict
  -E, --conflict-exit-code <n>
                        exit code of a conflict (default: 1). With 0, a conflict
                        is not an error and prints nothing
  -o, --close           release the lock when the command ends, even if its
                        descendants are still running
      --grace <s>       if the lock is lost, the command and its descendants get
                        SIGTERM, and SIGKILL after this many seconds
                        (default: 10)
  -v, --verbose         report each step on standard error
  -h, --help            this text
  -V, --version         the version

The URL of the lock may be left out if IPC_MUTEX_URL is set. The command runs
without a shell, with the standard streams of this program, and gets the signals
that this program gets. IPC_MUTEX_TOKEN in its environment is the fencing token,
a number that is larger each time the lock is granted.

Exit code: that of the command, 128 + n if signal n ended it, or
    1  the lock is taken (see -E)         75  the lock was lost meanwhile
   64  wrong arguments                   126  the command cannot be executed
   69  the server cannot be used         127  there is no such command

Examples:
  ipc-mutex exec lpm:backup -- ./backup.sh --full
  ipc-mutex exec rpm+redis://db.example/backup -- ./backup.sh --full
  IPC_MUTEX_URL=... ipc-mutex exec -n -E 0 -- node nightly-report.js
  ipc-mutex exec -s -w 60 rpm+etcd://db.example/config -- make check
`

const STATUS = `Shows who holds a lock and who waits for it.

Usage: ipc-mutex status [options] <url>

      --json      one line of JSON: { "id", "held": [...], "pending": [...] }
      --watch     go on, until interrupted; elsewhere than on a terminal, write
                  again whenever something has changed
  -h, --help      this text
  -V, --version   the version

The URL of the lock may be left out if IPC_MUTEX_URL is set. What a server does
not tell is absent: PostgreSQL, for instance, does not know since when a lock is
held.

Exit code: 0, whether the lock is held or free, or
   64  wrong arguments                    69  the server cannot be used
   74  standard output cannot be written
`

const WITHLOCK = `Runs a command while an advisory lock of PostgreSQL is held.

Usage: withlock <lockName> [--db <connectionString>] -- <command> [args...]

      --db <connectionString>  a PostgreSQL connection string (default: the
                               environment variable PG_CONNECTION_STRING)
  -h, --help                   this text
  -V, --version                the version

Waits until the lock is free. It is the same lock as that of programs that use
the package advisory-lock or ipc-mutex/advisory-lock with this name. Put a
password into PG_CONNECTION_STRING or PGPASSWORD, not into --db, which everybody
on this machine can see in the list of processes.

Exit code: that of the command, 128 + n if signal n ended it, or
   64  wrong arguments                   126  the command cannot be executed
   69  the server cannot be used         127  there is no such command
   75  the lock was lost meanwhile

Example:
  export PG_CONNECTION_STRING=postgres://app@db.example/app
  withlock migration -- npm run migrate
`

const PGMUTEX = `Starts a program when an advisory lock of PostgreSQL is free, and holds it.

Usage: pgmutex [--db <connectionString>] [--name <lock>] <command> [args...]

      --db <connectionString>  a PostgreSQL connection string (default: the
                               environment variable PG_CONNECTION_STRING)
      --name <lock>            the lock's name (default: the command's path, as
                               it is written)
  -h, --help                   this text
  -V, --version                the version

Options stand before the command. The lock is that of ipc-mutex/advisory-lock
and of withlock with the same name. Put a password into PG_CONNECTION_STRING or
PGPASSWORD, not into --db, which everybody on this machine can see in the list
of processes.

Exit code: that of the command, 128 + n if signal n ended it, or
   64  wrong arguments                   126  the command cannot be executed
   69  the server cannot be used         127  there is no such command
   75  the lock was lost meanwhile

Example:
  export PG_CONNECTION_STRING=postgres://app@db.example/app
  pgmutex ./path/to/worker
`

module.exports = { IPC_MUTEX, EXEC, STATUS, WITHLOCK, PGMUTEX }
