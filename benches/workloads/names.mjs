// One lock per record. Timed as in local.mjs.
import { Inside } from "../harness/exclusion.mjs"
import { spent } from "./local.mjs"

const WARM_UP = 20_000
/** The part of all functions that runs before, if they are few. */
const PART = 0.2

/**
 * One caller, function after function, under so many names in turn; 0: a new name each time.
 * @param {{ isRemote?: boolean }} argument whether the time of a server is part of a function's
 * @returns nanoseconds for each
 */
export async function records ({ client, names, count, isRemote }) {
    const time = isRemote ? () => performance.now() * 1e6 : spent
    let last = 0
    const name = names === 0 ? () => `order:${++last}` : () => `order:${++last % names}`
    const loop = async (rounds) => {
        for (let done = 0; done < rounds; done++)
            await client.under(name(), nothing)
    }
    await loop(Math.min(WARM_UP, count * PART))
    const begun = time()
    await loop(count)
    const each = (time() - begun) / count
    if (client.excludes !== false)
        await prove(client)
    return { each }
}

const nothing = () => {}

/** Fails if two are inside at once. */
async function prove (client) {
    const inside = new Inside()
    await Promise.all(Array.from({ length: 50 }, () => client.under("proof", async () => {
        inside.enter()
        await null
        inside.leave()
    })))
}
