// `await using` releases at the end of the block, however it ends. Node.js 24 and newer has it; TypeScript 5.2 and newer
// compiles it for older versions.
//
//     node examples/await-using.mts               (Node.js 24)
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
