// One torture: clients at work, faults from a seeded schedule, and the judgement of what they believed.
import { setTimeout as sleep } from "node:timers/promises"
import { now } from "../support/history.mjs"
import { randomness } from "../model/reference.mjs"
import { faultsOf, hitsServer } from "./faults.mjs"
import { judge } from "./judge.mjs"
import { World } from "./world.mjs"

export { targets } from "./world.mjs"

/** How long the clients have without a fault in between (milliseconds). */
const CALM = 1500

/** Faults that end a hold on the server before its time: until the news has come, its holder believes in it. */
const SUDDEN = new Set([ "sessions are terminated", "a lease is revoked", "the leader stands still", "a session is destroyed",
    "the server is killed and starts again with its data" ])

/**
 * @param {object} settings
 * @param {string} settings.target one of `targets`
 * @param {number} settings.seed the same seed gives the same schedule of faults
 * @param {number} settings.minutes
 * @param {string} [settings.only] faults whose name contains this text; if there is none, there are no faults
 * @param {boolean} [settings.timed] whether the time that something takes is judged, which a machine that has other work may fail; true by default.
 *   Without it there are no faults either after which a hold ends before its holder can know
 * @param {number} [settings.longest] how long a pause may be (milliseconds)
 * @param {(line: string) => void} [settings.say]
 * @returns {Promise<{ violations: string[], counts: object, faults: Map<string, number>, folder: string }>}
 */
export async function torture ({ target, seed, minutes, only = "", timed = true, longest = Infinity, say = () => {} }) {
    const draw = randomness(seed)
    const random = () => draw(1_000_000) / 1_000_000
    const faults = Object.entries(faultsOf(target)).filter(([ name ]) => name.includes(only) && (timed || !SUDDEN.has(name)))
    const world = new World(target, seed, { longest, isCalm: faults.length === 0, timed })
    const injected = new Map()
    const schedule = []
    let kept = false
    await world.open()
    try {
        const end = performance.now() + minutes * 60_000
        while (performance.now() < end) {
            await sleep(CALM * random())
            if (faults.length === 0)
                continue
            const [ name, fault ] = faults[Math.floor(random() * faults.length)]
            injected.set(name, (injected.get(name) ?? 0) + 1)
            say(name)
            const entry = { name, from: now(), to: undefined, isServers: hitsServer(target, name) }
            schedule.push(entry)
            world.touched = []
            await fault(world, random)
            entry.to = now()
            // A cluster's workers, and the threads of one process, are concerned by what their process suffers.
            if (world.server !== undefined && !entry.isServers)
                entry.pids = world.touched
        }
        const stuck = await world.finish()
        const { lines, ...found } = world.read()
        const more = lines.filter(({ kind }) => kind === "fault").map(({ name, at, to }) => ({ name, from: BigInt(at), to: BigInt(to) }))
        const { violations, counts } = judge({ ...found, lines, schedule: [ ...schedule, ...more ], ttl: world.ttl, target, timed })
        violations.unshift(...stuck)
        kept = violations.length > 0
        return { violations, counts, faults: injected, folder: world.folder }
    }
    finally {
        await world.close({ keep: kept })
    }
}
