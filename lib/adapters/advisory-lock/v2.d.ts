/**
 * The API of version 2 of the package advisory-lock. Unlike `ipc-mutex/advisory-lock`, `lock()` resolves to the function that unlocks,
 * and holds are independent of each other, even on the same object.
 *
 * ```js
 * import advisoryLock from "ipc-mutex/advisory-lock/v2"
 *
 * const mutex = advisoryLock("postgres://user:password@db.example/app")("nightly-report")
 * const unlock = await mutex.tryLock()
 * if (unlock)
 *     try { work() } finally { await unlock() }
 * ```
 *
 * @param connectionString as for `ipc-mutex/advisory-lock`
 */
declare function advisoryLock (connectionString: string): advisoryLock.CreateMutex

declare namespace advisoryLock {
    /** A name, or the two signed 32-bit integers of `pg_advisory_lock(int4, int4)` themselves. */
    export type LockName = string | readonly [ number, number ]

    /** Makes the mutex object of one lock. */
    export type CreateMutex = (lockName: LockName) => AdvisoryMutex

    /**
     * Releases one hold. Rejects with a `MutexError`: `ERR_LOCK_LOST` if the hold was lost, `ERR_NOT_ACQUIRED` at the second call.
     */
    export type UnlockFunction = () => Promise<void>

    /**
     * Functions, not methods: you can destructure them. All reject with a `MutexError`: `ERR_CONNECT`, `ERR_AUTH`, `ERR_TLS` or
     * `ERR_SERVER` if the server cannot be used.
     */
    export interface AdvisoryMutex {
        /**
         * Waits for the exclusive lock, runs `fn`, and releases the lock, even if `fn` throws. If the lock is lost meanwhile, rejects at
         * once with `ERR_LOCK_LOST`, whatever `fn` is doing.
         * @returns what `fn` resolves to
         */
        withLock<T = undefined> (fn?: () => T | Promise<T>): Promise<T>
        /** Waits for the exclusive lock. */
        lock (): Promise<UnlockFunction>
        /** Takes the exclusive lock if it is free. Otherwise resolves to `undefined`. */
        tryLock (): Promise<UnlockFunction | undefined>
        /** Releases the object's oldest exclusive hold, if there is one. */
        unlock (): Promise<void>
        /** As `withLock`, with a shared lock. */
        withLockShared<T = undefined> (fn?: () => T | Promise<T>): Promise<T>
        /** Waits for a shared lock, which any number of holders can share. */
        lockShared (): Promise<UnlockFunction>
        /** Takes a shared lock if no exclusive one is held or waited for. Otherwise resolves to `undefined`. */
        tryLockShared (): Promise<UnlockFunction | undefined>
        /** Releases the object's oldest shared hold, if there is one. */
        unlockShared (): Promise<void>
    }

    /** The two integers for a name: the first and second four bytes of its SHA-256, little-endian. */
    export function strToKey (name: string): [ number, number ]

    /** The URL of a `Mutex` for the same lock. It contains the password. */
    export function mutexUrl (connectionString: string, lockName: LockName): string

    export { advisoryLock as default }
}

export = advisoryLock
