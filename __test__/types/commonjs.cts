// The typings as a CommonJS program sees them.
import Mutex = require("ipc-mutex")

async function main (): Promise<void> {
    const mutex: Mutex = new Mutex("spm:foo")
    const opened: void = await mutex.open()
    const acquired: void = await mutex.acquire()
    await mutex.release()
    await mutex.close()
    void opened
    void acquired

    const named: Mutex = new Mutex.Mutex(new URL("mpm:foo"), { label: "nightly" })
    const lock: Mutex.Lock = await named.lock({ shared: true, timeout: 100, signal: AbortSignal.timeout(5) })
    const token: bigint = lock.token
    const mode: "exclusive" | "shared" = lock.mode
    const perhaps: Mutex.Lock | null = await named.tryLock({ shared: true })
    void token
    void mode
    void perhaps

    try {
        await mutex.acquire({ timeout: 5 })
    }
    catch (error) {
        if (error instanceof Mutex.MutexError) {
            const code: string = error.code
            void code
        }
    }

    // @ts-expect-error: a URL is needed
    new Mutex()
    // @ts-expect-error: a number is no URL
    new Mutex(42)
    // @ts-expect-error: shared is a boolean
    await mutex.acquire({ shared: "yes" })
    // @ts-expect-error: there is no such method
    mutex.aquire()
}

void main
