// What a mutex tells of itself: "acquire", "release", "lost" (see loss.mjs) and, on a server, "disconnect" and "reconnect".
//
//     node examples/events.mjs
import Mutex from "ipc-mutex"

const mutex = new Mutex("spm:events")
mutex.on("acquire", ({ id, mode, token }) => console.log("acquire", id, mode, typeof token))
mutex.on("release", ({ id, mode }) => console.log("release", id, mode))
await mutex.open()

await mutex.acquire()                             // the 1.x call asks for no token
await mutex.release()
await mutex.withLock({ shared: true }, () => {})
await mutex.close()

// Prints:
//   acquire events exclusive undefined
//   release events exclusive
//   acquire events shared bigint
//   release events shared
