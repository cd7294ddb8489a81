// One torture: clients at work, faults from a seeded schedule, and the judgement of what they believed.
import { setTimeout as sleep } from "node:timers/promises"
import { check, now } from "../support/history.mjs"
import { randomness } from "../model/reference.mjs"
import { faultsOf } from "./faults.mjs"
import { World } from "./world.mjs"

export { targets } from "./world.mjs"

/** How long the clients have without a fault in between (milliseconds). */
const CALM = 1500

/**
 * @param {object} settings
 * @param {string} settings.target one of `targets`
 * @param {number} settings.seed the same seed gives the same schedule of faults
 * @param {number} settings.minutes
 * @param {string} [settings.only] faults whose name contains this text
 * @param {(line: string) => void} [settings.say]
 * @returns {Promise<{ violations: string[], counts: object, faults: Map<string, number>, folder: string }>}
 */
export async function torture ({ target, seed, minutes, only = "", say = () => {} }) {
    const draw = randomness(seed)
    const random = () => draw(1_000_000) / 1_000_000
    const faults = Object.entries(faultsOf(target)).filter(([ name ]) => name.includes(only))
    const world = new World(target, seed)
    const violations = []
    const injected = new Map()
    const schedule = []
    let kept = false
    await world.open()
    try {
        const end = performance.now() + minutes * 60_000
        while (performance.now() < end) {
            await sleep(CALM * random())
            const [ name, fault ] = faults[Math.floor(random() * faults.length)] ?? [ "calm", () => sleep(CALM) ]
            injected.set(name, (injected.get(name) ?? 0) + 1)
            say(name)
            const entry = { name, from: now(), to: undefined }
            schedule.push(entry)
            await fault(world, random)
            entry.to = now()
        }
        violations.push(...await world.finish())
        const { histories, lines } = world.read()
        const more = lines.filter(({ kind }) => kind === "fault").map(({ name, at, to }) => ({ name, from: BigInt(at), to: BigInt(to) }))
        violations.push(...judge(lines, [ ...schedule, ...more ], world))
        const counts = judgeHistories(histories, violations)
        kept = violations.length > 0
        return { violations, counts, faults: injected, folder: world.folder }
    }
    finally {
        await world.close({ keep: kept })
    }
}

function judgeHistories (histories, violations) {
    try {
        return check(histories, { order: "none", tokens: true, pending: true })
    }
    catch (error) {
        violations.push(error.message)
        return {}
    }
}

/** What clients wrote besides their histories: a hold must not be lost while nothing was wrong, and every call ends in time. */
function judge (lines, schedule, { ttl, target }) {
    const found = []
    const grace = BigInt(Math.round((ttl * 2 + 4) * 1e9))
    for (const { kind, at, ...details } of lines) {
        const excused = schedule.some(({ from, to = now() }) => BigInt(at) >= from && BigInt(at) <= to + grace)
        if (kind === "lost" && !excused)
            found.push(`lost while nothing was wrong: ${JSON.stringify(details)}`)
        if ([ "slow", "unexpected", "unhandled", "uncaught" ].includes(kind))
            found.push(`${kind} on ${target}: ${JSON.stringify(details)}`)
    }
    return found
}
