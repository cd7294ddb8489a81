// Where processor time goes: what the kernel has counted for each thread of the servers and of the clients over the measured stretch.
import { existsSync, readFileSync, readdirSync } from "node:fs"
import { descendants } from "../../__test__/support/processes.mjs"

/**
 * What `pairs` pairs (or hand-overs) have cost.
 * @typedef {object} Usage
 * @property {number} pairs
 * @property {Record<string, Spent>} spent by who spent it: "server", "main thread" of the clients, or the name of their other threads
 *
 * @typedef {{ nanoseconds: number, wakeUps: number }} Spent time on a processor, and how often a thread that had gone to sleep was woken
 */

const SERVER = "server", MAIN = "main thread"

/** Fails where the kernel does not count what is needed. */
export function requireCounters () {
    if (process.platform !== "linux" || !existsSync("/proc/self/task") || !existsSync("/proc/self/schedstat"))
        throw new Error("--profile reads /proc/<pid>/task/<tid>/schedstat, which only Linux has, and not every kernel of it")
}

/** A thread's counters, from the texts of its files in /proc. */
export function countersOf (schedstat, status) {
    // schedstat: nanoseconds on a processor, nanoseconds ready to run and waiting for one, time slices.
    return { nanoseconds: Number(schedstat.split(" ")[0]), wakeUps: Number(/^voluntary_ctxt_switches:\s*(\d+)$/m.exec(status)[1]) }
}

/** A server's processes: PostgreSQL has one for each connection. To the workers of a cluster their primary is the server, and only that. */
function processesOf (server) {
    return server === process.ppid ? [ server ] : [ server, ...descendants(server) ]
}

/** `{ role, nanoseconds, wakeUps }` by thread. */
function read (servers, clients) {
    const threads = new Map()
    const add = (pid, roleOf) => {
        for (const tid of listed(`/proc/${pid}/task`))
            try {
                const file = (name) => readFileSync(`/proc/${pid}/task/${tid}/${name}`, "latin1")
                threads.set(tid, { role: roleOf(tid, file("comm").trim()), ...countersOf(file("schedstat"), file("status")) })
            }
            catch {
                // It has ended meanwhile.
            }
    }
    for (const pid of servers.flatMap(processesOf))
        add(pid, () => SERVER)
    for (const pid of clients)
        add(pid, (tid, name) => Number(tid) === pid ? MAIN : name)
    return threads
}

function listed (folder) {
    try {
        return readdirSync(folder)
    }
    catch {
        return []
    }
}

/** What was spent between two readings. */
export function difference (before, after) {
    const spent = {}
    for (const [ tid, { role, nanoseconds, wakeUps } ] of after) {
        const earlier = before.get(tid) ?? { nanoseconds: 0, wakeUps: 0 }
        const sum = spent[role] ??= { nanoseconds: 0, wakeUps: 0 }
        sum.nanoseconds += nanoseconds - earlier.nanoseconds
        sum.wakeUps += wakeUps - earlier.wakeUps
    }
    return spent
}

/**
 * Begins to count, if it is asked for: `servers` undefined means that it is not. Of several clients that count for themselves, one counts
 * the servers for all, and the others give no servers: `[]`.
 * @param {number[] | undefined} servers process ids
 * @param {number[]} [clients] likewise, this process by default
 * @returns {(pairs: number) => Usage | undefined} to be called at the end
 */
export function counting (servers, clients = [ process.pid ]) {
    if (servers === undefined)
        return () => undefined
    const now = () => {
        // Asking for its own time makes the kernel bring that of the running thread up to date, which it else does with each tick.
        process.cpuUsage()
        return read(servers, clients)
    }
    const before = now()
    return (pairs) => ({ pairs, spent: difference(before, now()) })
}

/** Of several rounds, or of several clients, in one; undefined if nobody has counted. */
export function added (usages) {
    const all = usages.filter((usage) => usage !== undefined)
    if (all.length === 0)
        return undefined
    const spent = {}
    for (const [ role, { nanoseconds, wakeUps } ] of all.flatMap((usage) => Object.entries(usage.spent))) {
        const sum = spent[role] ??= { nanoseconds: 0, wakeUps: 0 }
        sum.nanoseconds += nanoseconds
        sum.wakeUps += wakeUps
    }
    return { pairs: all.reduce((sum, { pairs }) => sum + pairs, 0), spent }
}

export const PROFILE_HEAD = [ "scenario, us (wake-ups) per pair", "", "server", "main thread", "other threads", "in all" ]

/** One line of cells for each contender of a scenario that has counted. */
export function profileCells (scenario, results) {
    return results.filter(({ usage }) => usage !== undefined).map(({ contender, usage: { pairs, spent } }) => {
        const cell = ({ nanoseconds, wakeUps }) => `${(nanoseconds / 1e3 / pairs).toFixed(1)} (${(wakeUps / pairs).toFixed(2)})`
        const { [SERVER]: server, [MAIN]: main, ...others } = spent
        const sum = (key) => Object.values(spent).reduce((total, each) => total + each[key], 0)
        return [
            scenario.title, contender.role === "ours" ? "ours" : contender.label,
            server === undefined ? "" : cell(server), main === undefined ? "" : cell(main),
            Object.entries(others).sort(([ , one ], [ , other ]) => other.nanoseconds - one.nanoseconds)
                .map(([ name, each ]) => `${name} ${cell(each)}`).join(", "),
            cell({ nanoseconds: sum("nanoseconds"), wakeUps: sum("wakeUps") })
        ]
    })
}
