// A wait with a time limit. After ERR_TIMEOUT the lock is not held and never will be through this call.
//
//     node examples/timeout.mjs
import Mutex from "ipc-mutex"

const mutex = new Mutex("spm:timeout")
await mutex.open()
const lock = await mutex.lock()

try {
    await mutex.lock({ timeout: 100 })
}
catch (error) {
    console.log(error.code, "-", error.message)
}
console.log("waiting:", (await mutex.query()).pending.length)

await lock.release()
await mutex.close()

// Prints:
//   ERR_TIMEOUT - lock "timeout" was not acquired in 100 ms
//   waiting: 0
