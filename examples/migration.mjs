// A migration at deployment: every new instance brings the database up to date before it starts, at the same time as all
// the others. The first one does the work, the others wait for it, find nothing left to do and start.
//
//     IPC_MUTEX_URL=rpm+pgsql://user:password@db.example/app/migration node migration.mjs
//
// To be a program that runs anywhere, the example notes what is done in a file instead of a table.
import Mutex from "ipc-mutex"
import { appendFile, mkdtemp, readFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"

const url = process.argv[2] ?? process.env.IPC_MUTEX_URL ?? "rpm+pgsql://localhost/postgres/migration"
const journal = process.argv[3] ?? join(await mkdtemp(join(tmpdir(), "migration-")), "journal")

const STEPS = [ "create table users", "add column email", "create index on email" ]

const mutex = new Mutex(url, { label: "migration" })
await mutex.open()
// A deployment that hangs helps nobody: after five minutes it fails instead.
await mutex.withLock({ timeout: 5 * 60_000 }, async ({ signal }) => {
    // Only who holds the lock may look what there is to do.
    const done = await readJournal()
    for (const step of STEPS.filter((each) => !done.includes(each))) {
        signal.throwIfAborted()
        console.log(`migrating: ${step}`)
        await sleep(10)
        await appendFile(journal, `${step}\n`)
    }
})
await mutex.close()
console.log("started")

/** The steps that have been taken. */
async function readJournal () {
    try {
        return (await readFile(journal, "utf8")).trimEnd().split("\n")
    }
    catch (error) {
        if (error.code === "ENOENT")
            return []
        throw error
    }
}

// Prints:
//   migrating: create table users
//   migrating: add column email
//   migrating: create index on email
//   started
