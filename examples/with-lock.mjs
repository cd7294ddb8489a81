// withLock() releases in every case, gives back what the function returns and passes on what it throws.
//
//     node examples/with-lock.mjs
import Mutex from "ipc-mutex"

const mutex = new Mutex("spm:with-lock")
await mutex.open()

const sum = await mutex.withLock(() => 1 + 2)
console.log("result:", sum)

try {
    await mutex.withLock(async () => {
        throw new Error("the disk is full")
    })
}
catch (error) {
    console.log("error:", error.message)
}

// Options come first.
await mutex.withLock({ timeout: 1000 }, (lock) => {
    console.log("holding", lock.id, lock.mode)
})

console.log("held by", (await mutex.query()).held.length)
await mutex.close()

// Prints:
//   result: 3
//   error: the disk is full
//   holding with-lock exclusive
//   held by 0
