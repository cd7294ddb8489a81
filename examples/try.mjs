// tryLock() and tryAcquire() never wait for another holder.
//
//     node examples/try.mjs
import Mutex from "ipc-mutex"

const mutex = new Mutex("spm:try")
await mutex.open()

const lock = await mutex.tryLock()
console.log("first try:", lock === null ? "busy" : "got it")
console.log("second try:", await mutex.tryLock() === null ? "busy" : "got it")
await lock.release()

if (await mutex.tryAcquire()) {
    console.log("third try: got it")
    await mutex.release()
}
await mutex.close()

// Prints:
//   first try: got it
//   second try: busy
//   third try: got it
