// What the operating system says of processes: whether one lives, when it began, and who its descendants are.
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { execFileSync } from "node:child_process"
import { waitFor } from "./waiting.mjs"

const hasProc = existsSync("/proc/self/stat")

/** Whether process `pid` exists and is not a zombie. */
export function alive (pid) {
    try {
        process.kill(pid, 0)
    }
    catch (error) {
        if (error.code === "ESRCH")
            return false
        if (error.code !== "EPERM")
            throw error
    }
    const entry = hasProc ? statistics(pid) : undefined
    return !hasProc || (entry !== undefined && entry.state !== "Z" && entry.state !== "X")
}

/** The state letter of process `pid` ("T" is stopped, "S" sleeping), or undefined if it does not exist. Linux only. */
export function state (pid) {
    return statistics(pid)?.state
}

/** Something that tells process `pid` from a later one of the same number, or undefined if it does not exist. */
export function birth (pid) {
    return hasProc ? statistics(pid)?.start : (alive(pid) ? "alive" : undefined)
}

/** All descendants of process `pid`, without itself. */
export function descendants (pid) {
    const children = new Map()
    for (const { pid: child, parent } of table()) {
        if (!children.has(parent))
            children.set(parent, [])
        children.get(parent).push(child)
    }
    const found = []
    const queue = [ pid ]
    while (queue.length > 0)
        for (const child of children.get(queue.pop()) ?? []) {
            found.push(child)
            queue.push(child)
        }
    return found
}

/**
 * Stops process `pid` and its descendants with SIGSTOP. Resolves with the ids of all when they truly stand still: a process goes on for
 * a moment after the signal, and may have a further child in it.
 */
export async function freeze (pid) {
    const all = [ pid ]
    for (let further = all; further.length > 0; all.push(...further)) {
        // again each time, should somebody else let them go on
        await waitFor(() => further.filter((each) => !stands(each) && signal(each, "SIGSTOP")).length === 0,
            { every: 2, what: `process ${pid} and its descendants to stop` })
        further = descendants(pid).filter((each) => !all.includes(each))
    }
    return all
}

/** Whether a process does nothing any more. */
function stands (pid) {
    return [ "T", "Z", "X", undefined ].includes(state(pid))
}

/** Sends `signal` to process `pid`; false if there is no such process (any more). */
export function signal (pid, name) {
    try {
        process.kill(pid, name)
        return true
    }
    catch (error) {
        if (error.code === "ESRCH")
            return false
        throw error
    }
}

function table () {
    if (!hasProc)
        return execFileSync("ps", [ "-A", "-o", "pid=,ppid=" ], { encoding: "utf8" }).trim().split("\n")
            .map((line) => line.trim().split(/\s+/).map(Number)).map(([ pid, parent ]) => ({ pid, parent }))
    return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number)
        .map((pid) => ({ pid, ...statistics(pid) })).filter((entry) => entry.parent !== undefined)
}

function statistics (pid) {
    let line
    try {
        line = readFileSync(`/proc/${pid}/stat`, "latin1")
    }
    catch {
        return undefined // it ended meanwhile
    }
    // the second field is the program's name in parentheses and may contain anything, so count from behind it
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ")
    return { state: fields[0], parent: Number(fields[1]), start: fields[19] }
}
