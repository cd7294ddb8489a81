// Shared locks: readers are in together, a writer is alone, and a waiting writer holds back later readers.
//
//     node examples/shared.mjs
import Mutex from "ipc-mutex"

const mutex = new Mutex("spm:shared")
await mutex.open()

const one = await mutex.lock({ shared: true })
const two = await mutex.lock({ shared: true })
console.log("readers inside:", (await mutex.query()).held.length)

const writer = mutex.withLock(() => console.log("writer"))
const late = mutex.withLock({ shared: true }, () => console.log("late reader"))
const { pending } = await mutex.query()
console.log("waiting:", pending.map(({ mode }) => mode).join(", "))

await one.release()
await two.release()
await Promise.all([ writer, late ])
await mutex.close()

// Prints:
//   readers inside: 2
//   waiting: exclusive, shared
//   writer
//   late reader
