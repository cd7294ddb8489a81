// ipc-mutex itself: the same for all models, only the URL differs.
import { createRequire } from "node:module"

const Mutex = createRequire(import.meta.url)("../../index.js")

/** @param {{ url: string }} target a URL with `{id}` in it */
export async function ours ({ url }) {
    const open = []
    return {
        async lock (id) {
            const mutex = new Mutex(url.replace("{id}", id))
            await mutex.open()
            open.push(mutex)
            return mutex
        },
        async close () {
            await Promise.all(open.map((mutex) => mutex.close()))
        }
    }
}
