// ?max_hold=<seconds> guards the others against a program that hangs while it holds: the hold ends, as lost, after that time.
//
//     node examples/max-hold.mjs [rpm+redis://localhost/max-hold]        (or any other server)
import Mutex from "ipc-mutex"

const url = process.argv[2] ?? "rpm+redis://localhost/max-hold"
const hanging = new Mutex(`${url}?max_hold=0.5`), other = new Mutex(`${url}?max_hold=60`) // each program knows how long it may take
await hanging.open()
await other.open()

const lock = await hanging.lock()                 // and it never releases it
await other.withLock(() => console.log("the other one is in"))
console.log("the first one knows:", lock.signal.reason.message)

await hanging.close()
await other.close()

// Prints:
//   the other one is in
//   the first one knows: lock "max-hold" was lost: it was held longer than max_hold allows (…)
