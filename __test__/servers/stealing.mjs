// A process that takes one lock in several flows at once, also from whoever has it, and tells in the end what it had:
//   node stealing.mjs <url> <flows> <rounds>
import { Mutex } from "../../index.mjs"
import { now } from "../support/history.mjs"

const [ url, flows, rounds ] = process.argv.slice(2)
const mutex = new Mutex(url)
const holds = []

/** One of five kinds of requests in each round, so that thieves meet all kinds of holders. */
const ask = (turn) => [
    () => mutex.lock({ steal: true }),
    () => mutex.lock(),
    () => mutex.lock({ shared: true }),
    () => mutex.tryLock(),
    () => mutex.lock()
][turn % 5]()

async function flow (number) {
    for (let round = 0; round < rounds; round++) {
        const turn = number + round
        const lock = await ask(turn).catch(told)
        if (lock === null || lock === undefined)
            continue
        const hold = { token: lock.token, shared: lock.mode === "shared", steals: turn % 5 === 0, from: now(), to: undefined, isLost: false }
        holds.push(hold)
        const lost = () => {
            hold.to ??= now()
            hold.isLost = true
        }
        lock.signal.addEventListener("abort", lost, { once: true })
        if (lock.signal.aborted)
            lost()
        await new Promise((resolve) => setTimeout(resolve, turn % 3))
        const before = now()
        await lock.release().then(() => { hold.to = before }, (error) => {
            told(error)
            lost()
        })
    }
}

/** A hold that is over before its call has ended rejects the call. */
function told (error) {
    if (error.code !== "ERR_LOCK_LOST")
        throw error
}

await mutex.open()
process.once("message", async () => {
    await Promise.all(Array.from({ length: Number(flows) }, (_, number) => flow(number)))
    await mutex.close()
    await new Promise((resolve) => process.send({ name: "holds", holds }, resolve))
    process.disconnect()
})
process.send("ready")
