// One lock per record. Timed as in local.mjs.
import { Inside } from "../harness/exclusion.mjs"
import { spent } from "./local.mjs"

const WARM_UP = 20_000

/**
 * One caller, function after function, under so many names in turn; 0: a new name each time.
 * @returns nanoseconds for each
 */
export async function records ({ client, names, count }) {
    let last = 0
    const name = names === 0 ? () => `order:${++last}` : () => `order:${++last % names}`
    const loop = async (rounds) => {
        for (let done = 0; done < rounds; done++)
            await client.under(name(), nothing)
    }
    await loop(WARM_UP)
    const begun = spent()
    await loop(count)
    const each = (spent() - begun) / count
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
