// Whether a lock outlives a holder's event loop that stands still.
import { Agent } from "./agents.mjs"
import { now } from "./clock.mjs"

/**
 * One process holds the lock and blocks its event loop for three times its lease; another one waits for it.
 * @param {{ ttl: number }} options seconds
 * @returns `{ kept: 1 }`, or 0 if the other got in meanwhile
 */
export function blocked ({ ttl }) {
    return async (contender, target) => {
        const id = "bench-blocked"
        const place = { ...target, url: `${target.url}${target.url.includes("?") ? "&" : "?"}ttl=${ttl}` }
        const holder = new Agent(contender, place), waiter = new Agent(contender, place)
        try {
            await Promise.all([ holder.call("open"), waiter.call("open") ])
            const said = holder.said("held")
            const held = holder.call("blockWhileHolding", { id, milliseconds: 3 * ttl * 1000 })
            await Promise.race([ said, held ])
            const begun = now()
            const granted = await waiter.call("acquire", { id })
            const { until } = await held
            return { kept: granted < until ? 0 : 1, after: (granted - begun) / 1e6 }
        }
        finally {
            await Promise.all([ holder.end(), waiter.end() ])
        }
    }
}
