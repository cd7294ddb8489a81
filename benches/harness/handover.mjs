// Measurements in which several processes of one contender take part.
import { withAgents } from "./agents.mjs"
import { now, sleep } from "./clock.mjs"
import { Overlap, checkHolds } from "./exclusion.mjs"
import { added, counting } from "./profile.mjs"
import { jain, percentile } from "./statistics.mjs"

const HOLD = 2

let runs = 0
/** A lock that nobody has used before, so that nothing is left of another run. */
const freshId = (name) => `bench-${name}-${++runs}`

/**
 * Two processes, one lock: while one holds it the other waits, then it is handed over, and back, for `milliseconds`.
 * Slow ones go on until there are `least`, or there would be no median.
 * @returns nanoseconds from the call of release() in one process to the end of acquire() in the other
 */
export function handOver (contender, target, { milliseconds, least = 7, profile }) {
    return withAgents(2, contender, target, async (one, other) => {
        const id = freshId("handover"), times = []
        await one.call("prime", { id, first: true })
        await one.call("acquire", { id })
        await other.call("prime", { id })
        const clients = [ one.pid, other.pid ]
        let counted
        const deadline = now() + milliseconds * 1e6
        while (now() < deadline || times.length < least) {
            // What passes between this process and theirs counts too, for everybody alike; the first one does not.
            if (times.length === 1)
                counted = counting(profile, clients)
            const granted = other.call("acquire", { id })
            await sleep(HOLD)
            const left = await one.call("release", { id })
            const time = await granted - left
            if (time < 0)
                throw new Overlap(`${contender.name}: granted ${-time} ns before the holder let go`);
            [ one, other ] = [ other, one ]
            times.push(time)
        }
        const usage = counted(times.length - 1)
        await one.call("release", { id })
        const measured = times.slice(times.length > 50 ? 10 : 1)
        return { p50: percentile(measured, 0.5), p99: percentile(measured, 0.99), usage }
    })
}

/** So many processes on one lock for a while. @returns pairs per second times Jain's index, and both apart */
export function crowd (contender, target, { milliseconds, processes = 8, profile }) {
    return withAgents(processes, contender, target, async (...agents) => {
        const id = freshId("crowd")
        await agents[0].call("prime", { id, first: true })
        const results = await Promise.all(agents.map((agent, at) =>
            agent.call("crowd", { id, milliseconds, profile: at === 0 ? profile : profile && [] })))
        return together(results, contender)
    })
}

/**
 * The shares of all who took part, in one. What counts is the time during which all of them competed: from when each had been let in
 * once, or had at least begun, until the first of them stopped. Before and after that a process may have had the lock for itself.
 */
export function together (results, { excludes = true } = {}) {
    if (excludes)
        checkHolds(results.map(({ holds }) => holds))
    const from = Math.max(...results.map(({ begun, holds }) => holds[0] ?? begun))
    const until = Math.min(...results.map(({ ended }) => ended))
    const counts = results.map(({ holds }) => holds.filter((time, at) => at % 2 === 0 && time >= from && time < until).length)
    const perSecond = counts.reduce((sum, count) => sum + count, 0) / (until - from) * 1e9
    const fairness = jain(counts)
    return { perSecond, fairness, score: perSecond * fairness, usage: added(results.map(({ usage }) => usage)) }
}

/** One process, and one workload in it. */
export function alone (workload, argument) {
    return (contender, target, { milliseconds, profile }) =>
        withAgents(1, contender, target, (agent) => agent.call(workload, { milliseconds, profile, ...argument }))
}
