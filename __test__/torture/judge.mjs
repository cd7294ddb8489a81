// The judgement of a torture: of the histories, of the register, of what clients wrote besides, of the bystander.
import { check, now } from "../support/history.mjs"
import { judgeRegister } from "./guarded.mjs"

/** What clients write about the time that something took. */
const TIMES = new Set([ "slow", "lost" ])
const UNANNOUNCED = new Set([ "slow", "unexpected", "unhandled", "uncaught" ])

/** How long a lock may lie idle although somebody waits while nothing is wrong. */
const IDLE = 5
/**
 * How many grants of later requests a waiter may see that no fault concerns. Processes take turns on a server, and those who wait in one process line
 * up there, so it is none only where there is one process.
 */
const OVERTAKEN = 40
/** The longest that the server may take for a bystander's call. */
const SERVED = 5

const nanoseconds = (seconds) => BigInt(Math.round(seconds * 1e9))
const overlaps = ({ from, to = now() }, begin, end, grace) => begin <= to + grace && end >= from

/**
 * @param {object} found
 * @param {import("../support/history.mjs").History[]} found.histories
 * @param {object[]} found.lines what clients wrote besides
 * @param {unknown[][]} found.accesses the register's log
 * @param {{ from: bigint, to?: bigint, error?: Error }[]} found.calls the bystander's
 * @param {{ name: string, from: bigint, to?: bigint, isServers: boolean, pids?: number[] }[]} found.schedule the faults; `pids`
 *   of the clients that one concerns, if not all
 * @param {number} found.ttl
 * @param {string} found.target
 * @param {boolean} found.timed whether the time that something takes is judged
 * @returns {{ violations: string[], counts: object }}
 */
export function judge ({ histories, lines, accesses, calls, schedule, ttl, target, timed }) {
    const register = judgeRegister(accesses)
    const served = calls.length
    const violations = []
    const grace = nanoseconds(ttl * 2 + 4)
    const count = (kind) => lines.filter((line) => line.kind === kind).length
    let counts = {}
    try {
        counts = check(histories, { order: "none", tokens: true, pending: true })
    }
    catch (error) {
        violations.push(error.message)
    }
    violations.push(...register.violations)
    for (const { kind, at, late, file, ...details } of lines) {
        if (!timed && (late !== undefined || TIMES.has(kind)))
            continue
        if (kind === "lost" && !schedule.some((fault) => overlaps(fault, BigInt(at), BigInt(at), grace)))
            violations.push(`lost while nothing was wrong (${file}): ${JSON.stringify(details)}`)
        if (UNANNOUNCED.has(kind))
            violations.push(`${kind} on ${target}: ${JSON.stringify(details)}`)
    }
    if (timed) {
        const events = merged(histories)
        const order = overtaken(events, schedule, ttl)
        violations.push(...idle(events, schedule, ttl), ...order.violations, ...unserved(calls, schedule))
        counts.overtaken = order.most
    }
    counts = { ...counts, ...register.counts, late: count("late"), refused: count("refused"), fenced: count("fenced"), served }
    return { violations, counts }
}

/** All events, the first first. */
const merged = (histories) => histories.flatMap((history) => [ ...history.events() ]).sort((a, b) => a.at < b.at ? -1 : a.at > b.at ? 1 : 0)

/** Waiters that were left alone by all faults, and saw too many come later and be served; the most that one saw. */
function overtaken (events, schedule, ttl) {
    const found = []
    let most = 0
    const waiting = new Map()
    const touched = (owner, begin, end) => schedule.some((fault) => (fault.pids === undefined || fault.pids.includes(parseInt(owner)))
        && overlaps(fault, begin, end, nanoseconds(ttl * 2 + 4)))
    for (const { id, owner, kind, attempt, at } of events) {
        const key = `${owner} ${id}`, asked = waiting.get(key)
        waiting.delete(key)
        if (kind === "ask")
            waiting.set(key, { id, owner, at, isTry: attempt === "try", later: 0 })
        if (kind !== "grant" || asked === undefined)
            continue
        for (const waiter of waiting.values())
            if (waiter.id === id && waiter.at < asked.at)
                waiter.later++
        if (asked.later <= most || asked.isTry || touched(owner, asked.at, at))
            continue
        most = asked.later
        if (most > OVERTAKEN)
            found.push(`${owner} waited ${(at - asked.at) / 1_000_000n} ms for lock "${id}" and was overtaken ${asked.later} times`)
    }
    return { violations: found, most }
}

/** Locks that nobody held although somebody waited, longer than the faults of the time explain. */
function idle (events, schedule, ttl) {
    const found = []
    const locks = new Map()
    for (const { id, owner, kind, attempt, at } of events)
        for (const [ name, lock ] of kind === "gone" ? locks : [ [ id, locks.get(id) ?? { holders: new Set(), waiters: new Set(), since: at } ] ]) {
            locks.set(name, lock)
            const isIdle = lock.holders.size === 0 && lock.waiters.size > 0
            if (isIdle && kind !== "ask") {
                const excuses = schedule.filter((fault) => overlaps(fault, lock.since, at, nanoseconds(ttl * 2 + 4)))
                const length = excuses.reduce((sum, { from, to = now() }) => sum + to - from, nanoseconds(IDLE + (excuses.length > 0 ? ttl * 3 : 0)))
                if (at - lock.since > length)
                    found.push(`lock "${name}" was held by nobody for ${(at - lock.since) / 1_000_000n} ms while ${[ ...lock.waiters ].join(", ")} waited`)
            }
            if (kind === "ask" && attempt === "wait")
                lock.waiters.add(owner)
            else {
                lock.waiters.delete(owner)
                lock.holders[kind === "grant" ? "add" : "delete"](owner)
            }
            if (!isIdle || kind !== "ask")
                lock.since = at
        }
    return found
}

/** Calls of the bystander that failed or took too long while the server was healthy. */
function unserved (calls, schedule) {
    const faults = schedule.filter(({ isServers }) => isServers)
    return calls.filter(({ from, to = now(), error }) => error !== undefined || to - from > nanoseconds(SERVED))
        .filter(({ from, to = now() }) => !faults.some((fault) => overlaps(fault, from, to, nanoseconds(SERVED))))
        .map(({ from, to = now(), error }) => `a bystander was not served: ${error?.message ?? `${(to - from) / 1_000_000n} ms`}`)
}
