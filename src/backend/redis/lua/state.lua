-- The state of one lock, as every script here sees it. Put between words.lua and each of them.

local micros = read_clock()
local now = math.floor(micros / 1000)

-- Who has the lock: 'free', 'exclusive' (by `holder`, with `token`), 'shared' or 'foreign'.
local state, holder, token
do
    local value = call('GET', MAIN)
    if not value then
        state = 'free'
    elseif value == SHARED then
        state = 'shared'
    else
        holder, token = string.match(value, '^ipc%-mutex:x (%S+) (%S+) ')
        state = holder and 'exclusive' or 'foreign'
    end
end

-- Lets an auxiliary key live at least `ttl` ms from now, and a second more than what it tells of.
local function keep (key, ttl)
    local wanted = ttl + 1000
    local left = call('PTTL', key)
    if left ~= -2 and left < wanted then
        call('PEXPIRE', key, text(wanted))
    end
end

local function take_exclusive (owner, minted, ttl, info)
    hold(owner, minted, ttl, info)
    remember(minted)
    state, holder, token = 'exclusive', owner, minted
end

-- The main key lasts as long as the longest-lived reader.
local function stretch ()
    local last = call('ZREVRANGE', READERS, 0, 0, 'WITHSCORES')[2]
    call('SET', MAIN, SHARED, 'PX', text(math.max(tonumber(last) - now, 1)))
end

local function take_shared (owner, fenced, minted, ttl, channel, info)
    remember(minted)
    call('ZADD', READERS, text(now + ttl), owner)
    call('HSET', INFO, owner, table.concat({ 's', fenced, ttl, channel, minted, info }, ' '))
    keep(READERS, tonumber(ttl))
    keep(INFO, tonumber(ttl))
    stretch()
    state, holder, token = 'shared', nil, minted
end

local function forget_waiter (owner)
    call('ZREM', BEATS, owner)
    call('HDEL', INFO, owner)
    return call('ZREM', QUEUE, owner) == 1
end

local function forget_readers (owners)
    for _, owner in ipairs(owners) do
        call('ZREM', READERS, owner)
        call('HDEL', INFO, owner)
    end
end

-- 1.1.2 processes try every 50 ms and leave no trace while they wait, so a lock that is passed from hand to hand would never be
-- theirs. Hence a gap now and then, long enough for one of their tries: the first after a second without any moment in which the
-- lock was free, each further one after twice the time of the one before; one that is taken brings back the short interval.
local GAP, SHORTEST, LONGEST = 60, 1000, 64000

local function turns ()
    local gap, due, interval = string.match(call('GET', TURNS) or '', '^(%d+) (%d+) (%d+)$')
    return tonumber(gap or '0'), tonumber(due), tonumber(interval or '0')
end

local function set_turns (gap, interval)
    local words = { text(gap), text(now + interval), text(interval) }
    call('SET', TURNS, table.concat(words, ' '), 'PX', text(2 * interval + 10000))
end

-- Before the lock is handed on: leaves it free for a moment if that is due, and tells the first waiter that listens to come
-- back after that: "<owner> after <ms>".
local function make_room ()
    local _, due, interval = turns()
    if not due then
        set_turns(0, SHORTEST)
    elseif due <= now then
        for _, owner in ipairs(call('ZRANGE', QUEUE, 0, -1)) do
            local _, _, _, channel = string.match(call('HGET', INFO, owner) or '', ENTRY)
            if channel and call('PUBLISH', channel, owner .. ' after ' .. GAP) > 0 then
                set_turns(now + GAP, math.min(2 * interval, LONGEST))
                return
            end
        end
    end
end

-- Brings the lock up to date: readers whose time is over leave, dead waiters leave the head of the queue, and a free
-- lock (unless it is left free for 1.1.2) goes to the first waiter, or to the run of shared ones at the head. Each is told over its process's channel:
-- "<owner> <token> <microseconds of the server's clock>". A waiter whose process does not listen at this moment is passed over
-- but keeps its place: it may be reconnecting.
local function settle ()
    if state == 'shared' then
        forget_readers(call('ZRANGEBYSCORE', READERS, '-inf', text(now)))
        if call('EXISTS', READERS) == 0 then
            call('DEL', MAIN)
            state = 'free'
        end
    else
        -- The main key was deleted, or taken after it had run out: the readers' holds are gone with it.
        forget_readers(call('ZRANGE', READERS, 0, -1))
    end
    local rank = 0
    while true do
        local owner = call('ZRANGE', QUEUE, rank, rank)[1]
        if not owner or (state == 'free' and turns() > now) then
            return
        end
        local beat = tonumber(call('ZSCORE', BEATS, owner) or '0')
        local mode, fenced, ttl, channel, _, info = string.match(call('HGET', INFO, owner) or '', ENTRY)
        if not mode or beat <= now then
            forget_waiter(owner)
        elseif state == 'free' or (state == 'shared' and mode == 's') then
            local minted = mint(fenced, micros)
            if call('PUBLISH', channel, owner .. ' ' .. minted .. ' ' .. text(micros)) == 0 then
                rank = rank + 1
            else
                forget_waiter(owner)
                if mode == 'x' then
                    take_exclusive(owner, minted, ttl, info)
                else
                    take_shared(owner, fenced, minted, ttl, channel, info)
                end
            end
        else
            return
        end
    end
end

-- Whether `owner` is the first waiter whose process listens (or would be, if it listened).
local function is_first (owner)
    local rank = 0
    while true do
        local other = call('ZRANGE', QUEUE, rank, rank)[1]
        if not other or other == owner then
            return other == owner
        end
        local _, _, _, channel = string.match(call('HGET', INFO, other) or '', ENTRY)
        if channel and call('PUBSUB', 'NUMSUB', channel)[2] > 0 then
            return false
        end
        rank = rank + 1
    end
end

-- What a waiter must know to wait well: { 'queued', is it the first, does a 1.1.2 process hold the lock, ms until the lock may be
-- free by itself (negative: never) }.
local function place (owner)
    local left = call('PTTL', MAIN)
    if state == 'free' then
        left = math.max(turns() - now, 0)
    end
    return { 'queued', is_first(owner) and 1 or 0, state == 'foreign' and 1 or 0, left }
end
