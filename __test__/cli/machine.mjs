// Locks of one machine in a folder of their own, for tests of commands that need no server.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Mutex from "ipc-mutex"

export const skip = process.platform === "linux" ? false : "lpm: exists on Linux only"

/** What follows a URL to run a line of shell. */
export const shell = (code) => [ "--", "sh", "-c", code ]

/** A folder for the locks of a test. */
export function place (t) {
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-machine-"))
    const remove = () => rmSync(folder, { recursive: true, force: true })
    t.after(remove)
    return { folder, remove, url: `lpm:job?dir=${encodeURIComponent(folder)}` }
}

export async function opened (t, url) {
    const mutex = new Mutex(url)
    await mutex.open()
    t.after(() => mutex[Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]())
    return mutex
}
