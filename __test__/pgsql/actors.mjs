// Processes with a mutex each, for tests of what becomes of locks when processes, connections and servers fail.
import { startChild } from "../support/children.mjs"
import { main } from "../conformance/world.mjs"

const script = new URL("./actor.mjs", import.meta.url)
let count = 0

/**
 * A process of its own with an open mutex for `url`.
 *
 * - `tell(deed, options)` resolves with the answer, or rejects with what the process caught
 * - `begin(deed, options)` gives a function that waits for the answer
 * - `child` is the process
 */
export async function actor (t, url) {
    const child = await startChild(t, script, [ main, url ])
    await child.message("ready")
    const begin = async (deed, options) => {
        const say = `${deed}-${++count}`
        await child.send({ say, do: deed, options })
        return async (limits) => {
            const { error, ...answer } = await child.message(say, limits)
            if (error)
                throw Object.assign(new Error(error.message), { code: error.code })
            return answer
        }
    }
    const tell = async (deed, options) => (await begin(deed, options))()
    await tell("open")
    return { child, begin, tell }
}
