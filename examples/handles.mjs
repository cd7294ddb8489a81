// lock() gives a handle per hold. Handles of one mutex are independent of each other.
//
//     node examples/handles.mjs
import Mutex from "ipc-mutex"

const mutex = new Mutex("spm:handles")
await mutex.open()

const first = await mutex.lock()
const second = mutex.lock()                       // waits its turn: a mutex is not re-entrant
console.log(first.id, first.mode, typeof first.token)

await first.release()
await first.release()                             // releasing twice does no harm: it does not touch the second hold
const lock = await second
console.log("later holder, larger token:", lock.token > first.token)
await lock.release()

await mutex.close()

// Prints:
//   handles exclusive bigint
//   later holder, larger token: true
