// `await using` releases the lock when the block ends, whether it returns or throws.
//
//     node examples/await-using.mjs               (Node.js 24 or newer; TypeScript 5.2 compiles it for older versions)
import Mutex from "ipc-mutex"

await using mutex = new Mutex("spm:await-using")
await mutex.open()

{
    await using lock = await mutex.lock()
    console.log("holding", lock.id)
}
console.log("held by", (await mutex.query()).held.length)

// Prints:
//   holding await-using
//   held by 0
