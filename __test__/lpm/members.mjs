// Other processes at a lock, which do what they are told.
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { startChild } from "../support/children.mjs"

const program = new URL("member.mjs", import.meta.url).pathname

export const onLinux = { skip: process.platform !== "linux" && "lpm: exists on Linux only" }
/** For what only root can set up. */
export const asRoot = { skip: onLinux.skip || process.getuid() !== 0 && "root alone can set this up" }

export function place (t) {
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-lpm-"))
    t.after(() => rmSync(folder, { recursive: true, force: true }))
    return { folder, url: urlIn(folder) }
}

/** A folder on a disk of its own, which only root can mount; undefined where even root cannot. */
export function smallDisk (t, size) {
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-lpm-"))
    const { status } = spawnSync("mount", [ "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", folder ])
    t.after(() => {
        if (status === 0)
            spawnSync("umount", [ "--lazy", folder ])
        rmSync(folder, { recursive: true, force: true })
    })
    return status === 0 ? folder : undefined
}

export const urlIn = (folder) => `lpm:place?dir=${encodeURIComponent(folder)}`

/** A process with a mutex; `as` are the arguments of member.mjs behind the URL. */
export async function member (t, url, { as = [], ...options } = {}) {
    const child = await startChild(t, program, [ url, ...as.map(String) ], options)
    return {
        child,
        pid: child.pid,
        /** @returns {Promise<{ result?: unknown, code?: string, message?: string }>} */
        async call (method, argument) {
            await child.send([ method, argument ])
            return child.message(method)
        },
        /** Asks for the lock, and says when it is held. */
        async wait () {
            await child.send([ "lock" ])
            return () => child.message("lock")
        }
    }
}
