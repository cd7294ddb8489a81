// Judges histories: exclusion, no lost request, order, fencing tokens. Linear but for one sort.
import { AssertionError } from "node:assert"

const FOREVER = 2n ** 63n - 1n

/**
 * Fails with an AssertionError that shows the events around each fault, if the histories together show
 *
 * - an exclusive hold that overlaps another hold of the same id (a hold lasts from `grant` to `release`, `lost` or `gone`);
 * - a request that was never granted nor cancelled (`pending: true` allows those of a run that was cut short);
 * - a grant to somebody who had not asked, or had given up;
 * - with `order: "strict"`: a grant that overtook another request made more than `slack` milliseconds before. Shared
 *   requests granted in one run have no order among each other, and an `attempt: "try"` is not overtaken;
 * - with `tokens: true`: a token that is not larger than all those granted before. Those of one run of shared grants
 *   only have to differ from each other.
 *
 * @param {import("./history.mjs").History | import("./history.mjs").History[]} histories of all processes that took part
 * @param {object} [options]
 * @param {"strict" | "none"} [options.order] "strict" by default
 * @param {number} [options.slack] milliseconds, 0 by default: how long a request may take to its place in the queue
 * @param {boolean} [options.tokens] false by default
 * @param {boolean} [options.pending] false by default
 * @returns {{ ids: number, asks: number, grants: number, cancelled: number, lost: number, gone: number, tokens: number,
 *   readers: number }} what was judged; `readers` is the largest number of shared holds at one time
 */
export function check (histories, { order = "strict", slack = 0, tokens = false, pending = false } = {}) {
    const judge = new Judge(histories, check)
    const nanoseconds = BigInt(Math.round(slack * 1e6))
    for (const lock of judge.locks.values()) {
        judge.follow(lock, pending)
        judge.exclusion(lock)
        if (order === "strict")
            judge.order(lock, nanoseconds)
        else if (order !== "none")
            throw new TypeError(`unknown order ${order}`)
        if (tokens)
            judge.tokens(lock)
    }
    if (tokens && judge.counts.tokens === 0 && judge.counts.grants > 0)
        judge.fault("tokens", "no grant has a token", undefined, 0)
    judge.verdict()
    return judge.counts
}

class Judge {
    /** By id: `{ id, events, requests }`; events are sorted by time. */
    locks = new Map()
    counts = { ids: 0, asks: 0, grants: 0, cancelled: 0, lost: 0, gone: 0, tokens: 0, readers: 0 }
    #faults = []
    #numbers = new Map()
    #stack

    constructor (histories, stack) {
        this.#stack = stack
        const gone = []
        for (const history of [ histories ].flat())
            for (const event of history.events()) {
                if (event.kind === "gone") {
                    gone.push(event)
                    continue
                }
                let lock = this.locks.get(event.id)
                if (lock === undefined)
                    this.locks.set(event.id, lock = { id: event.id, events: [], requests: [], owners: new Set() })
                lock.events.push(event)
                lock.owners.add(event.owner)
            }
        for (const lock of this.locks.values()) {
            lock.events.push(...gone.filter((event) => lock.owners.has(event.owner)))
            // stable: what one process recorded in the same nanosecond stays in its order
            lock.events.sort((a, b) => a.at < b.at ? -1 : a.at > b.at ? 1 : 0)
        }
        this.counts.ids = this.locks.size
    }

    /** Joins the events of each owner to requests: `{ owner, mode, attempt, asked, granted, ended, token }`. */
    follow (lock, pending) {
        const current = new Map()
        for (const [ index, event ] of lock.events.entries()) {
            const { owner, kind, at } = event
            const request = current.get(owner)
            switch (kind) {
                case "ask":
                    if (request !== undefined)
                        this.fault("ask", `${owner} asks again before its former request has ended: give each flow its own owner`, lock, index)
                    current.set(owner, { owner, mode: event.mode, attempt: event.attempt, asked: at, index, granted: undefined, ended: undefined })
                    lock.requests.push(current.get(owner))
                    this.counts.asks++
                    break
                case "grant":
                    this.counts.grants++
                    if (request === undefined || request.granted !== undefined)
                        this.fault("grant", `${owner} is granted what it does not ask for`, lock, index)
                    else {
                        request.granted = at
                        request.token = event.token
                        request.index = index
                    }
                    break
                case "release":
                    // behind a loss it is no fault: whoever releases may not know yet
                    if (request !== undefined && request.granted === undefined)
                        this.fault("release", `${owner} releases what it does not hold`, lock, index)
                    this.#end(current, owner, at)
                    break
                default:
                    if (request !== undefined) {
                        if (kind === "cancel" && request.granted !== undefined)
                            this.fault("cancel", `${owner} cancels what it was granted`, lock, index)
                        this.counts[kind === "cancel" ? "cancelled" : kind]++
                    }
                    this.#end(current, owner, at)
            }
        }
        for (const request of current.values())
            if (request.granted === undefined && !pending)
                this.fault("pending", `${request.owner} was never granted what it asked for, nor told that it would not be`, lock, request.index)
    }

    #end (current, owner, at) {
        const request = current.get(owner)
        if (request !== undefined)
            request.ended = at
        current.delete(owner)
    }

    exclusion (lock) {
        const holds = lock.holds = lock.requests.filter((request) => request.granted !== undefined)
            .sort((a, b) => a.granted < b.granted ? -1 : a.granted > b.granted ? 1 : 0)
        const end = (hold) => hold.ended ?? FOREVER
        let last // of all holds so far, the one that ends last
        let exclusive // of the exclusive ones
        let readers = []
        for (const hold of holds) {
            const other = hold.mode === "exclusive" ? last : exclusive
            if (other !== undefined && hold.granted < end(other))
                this.fault("overlap", `${hold.owner} (${hold.mode}) was granted while ${other.owner} (${other.mode}) held`, lock, hold.index)
            if (last === undefined || end(hold) > end(last))
                last = hold
            if (hold.mode === "exclusive" && (exclusive === undefined || end(hold) > end(exclusive)))
                exclusive = hold
            if (hold.mode === "shared") {
                readers = readers.filter((reader) => end(reader) > hold.granted)
                readers.push(hold)
                this.counts.readers = Math.max(this.counts.readers, readers.length)
            }
        }
    }

    /**
     * A later request may be granted before an earlier one only if both are shared and no exclusive grant lies between: a
     * recorded grant may be late, but a hold that an exclusive one had to wait for was recorded before that.
     * An earlier request that gave up was overtaken by whoever was granted before, less the slack for telling it so.
     */
    order (lock, slack) {
        const entries = lock.requests.filter((request) => request.granted !== undefined || (request.ended !== undefined && request.attempt === "wait"))
            .map((request) => ({ request, granted: request.granted !== undefined, mode: request.mode,
                queued: request.attempt === "wait", asked: request.asked, at: request.granted ?? request.ended - slack }))
            .sort((a, b) => a.at < b.at ? -1 : a.at > b.at ? 1 : 0)
        // backwards, with the earliest request among those granted later: of any mode, exclusive, and behind the next exclusive grant
        let any, exclusive, behind
        const earlier = (a, b) => a === undefined || b.asked < a.asked ? b : a
        for (let at = entries.length - 1; at >= 0; at--) {
            const entry = entries[at]
            if (entry.granted)
                for (const other of entry.mode === "exclusive" ? [ any ] : [ exclusive, behind ])
                    if (other !== undefined && other.asked + slack < entry.asked) {
                        this.fault("order", `${entry.request.owner} (${entry.mode}) overtook ${other.request.owner} (${other.mode}),`
                            + ` which had asked ${milliseconds(entry.asked - other.asked)} ms before`, lock, entry.request.index)
                        break
                    }
            if (entry.granted && entry.mode === "exclusive")
                behind = any
            if (entry.queued) {
                any = earlier(any, entry)
                if (entry.mode === "exclusive")
                    exclusive = earlier(exclusive, entry)
            }
        }
    }

    tokens (lock) {
        let before // the largest token of the grants before this run
        let run = new Set()
        let largest // of this run and before
        let reading = false
        for (const hold of lock.holds) {
            const shared = hold.mode === "shared"
            if (!shared || !reading) {
                before = largest
                run = new Set()
            }
            reading = shared
            if (hold.token === undefined)
                continue
            this.counts.tokens++
            if (before !== undefined && hold.token <= before.token)
                this.fault("token", `${hold.owner} was granted with token ${hold.token} after ${before.owner} with ${before.token}`, lock, hold.index)
            if (run.has(hold.token))
                this.fault("token", `${hold.owner} was granted with token ${hold.token}, which another shared hold of the same run has`, lock, hold.index)
            run.add(hold.token)
            if (largest === undefined || hold.token > largest.token)
                largest = hold
        }
    }

    /** Keeps the first fault of each kind per lock, and counts the others. */
    fault (kind, message, lock, index) {
        const key = `${kind} ${lock?.id}`
        const fault = this.#numbers.get(key)
        if (fault !== undefined) {
            fault.more++
            return
        }
        const entry = { kind, message, lock, index, more: 0 }
        this.#numbers.set(key, entry)
        this.#faults.push(entry)
    }

    verdict () {
        if (this.#faults.length === 0)
            return
        const shown = this.#faults.slice(0, 5).map(({ message, lock, index, more }) =>
            (lock === undefined ? message : `lock "${lock.id}": ${message}\n${excerpt(lock.events, index)}`)
            + (more > 0 ? `\n... and ${more} more of this kind` : ""))
        if (this.#faults.length > shown.length)
            shown.push(`... and ${this.#faults.length - shown.length} further faults`)
        const error = new AssertionError({ message: shown.join("\n\n"), operator: "check", stackStartFn: this.#stack })
        error.kinds = [ ...new Set(this.#faults.map((fault) => fault.kind)) ]
        throw error
    }
}

function excerpt (events, index) {
    const first = Math.max(0, index - 8)
    return events.slice(first, index + 4).map((event, at) => {
        const details = [ event.kind === "ask" && event.mode === "shared" ? "shared" : "", event.attempt === "try" ? "try" : "",
            event.token === undefined ? "" : `token ${event.token}` ].filter(Boolean).join(" ")
        const time = milliseconds(event.at - events[index].at).padStart(12)
        return `${first + at === index ? ">" : " "} ${time} ms  ${event.owner.padEnd(16)} ${event.kind.padEnd(7)} ${details}`.trimEnd()
    }).join("\n")
}

function milliseconds (nanoseconds) {
    return (Number(nanoseconds) / 1e6).toFixed(3)
}
