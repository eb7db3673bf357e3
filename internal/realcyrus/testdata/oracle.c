/* The oracle: real Cyrus's libcyrus behind a line protocol, for tests and benchmarks.
 *
 *   oracle CONFDIR ALWAYS_CHECKPOINT(0|1)
 *
 * CONFDIR/db/skipstamp decides on skiplist recovery, as in Cyrus. One command a line on standard input, words separated
 * by single spaces; keys, values and paths in hex, "-" if empty. Each answer is any number of rows
 *
 *   + HEX [HEX]
 *
 * and one last line
 *
 *   = CODE [WORD ...]        CODE as the library returned it
 *   ! TEXT                   the library called fatal(), and the process ends
 *
 * H below is the number of a handle, 0 to 7. The commands are listed in the table at the end of this file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#include <cyrus/cyrusdb.h>
#include <cyrus/libcyr_cfg.h>

#define HANDLES 8
#define USAGE (-100) /* not a code of the library: the command was wrong */

struct handle {
    struct db *db;
    char *engine, *path;
    int intxn;       /* between begin and commit or abort */
    struct txn *tid; /* set by the first operation after begin */
};

struct bytes {
    char *p;
    size_t len;
};

static struct handle handles[HANDLES];

/* ---- input and output ---- */

void fatal(const char *text, int code)
{
    printf("! %s\n", text);
    fflush(stdout);
    _exit(code ? code : 1);
}

static void *must(void *p)
{
    if (!p) fatal("out of memory", 71);
    return p;
}

static int digit(int c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    fatal("bad hex digit in a command", 64);
    return 0;
}

/* unhex decodes a word; the result ends in a NUL that len does not count, and is freed by the caller. */
static struct bytes unhex(const char *s)
{
    struct bytes b = { NULL, 0 };
    size_t n = strlen(s), i;

    if (!strcmp(s, "-")) n = 0;
    if (n % 2) fatal("odd number of hex digits in a command", 64);
    b.len = n / 2;
    b.p = must(malloc(b.len + 1));
    for (i = 0; i < b.len; i++) b.p[i] = digit(s[2 * i]) << 4 | digit(s[2 * i + 1]);
    b.p[b.len] = 0;
    return b;
}

static void puthex(const char *p, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    size_t i;

    if (!len) putchar('-');
    for (i = 0; i < len; i++) {
        putchar(digits[(p[i] >> 4) & 15]);
        putchar(digits[p[i] & 15]);
    }
}

static void row(const char *a, size_t alen, const char *b, size_t blen)
{
    fputs("+ ", stdout);
    puthex(a, alen);
    if (b) {
        putchar(' ');
        puthex(b, blen);
    }
    putchar('\n');
}

static void done(int code)
{
    printf("= %d\n", code);
    fflush(stdout);
}

/* ---- handles ---- */

static struct handle *handle(const char *word)
{
    unsigned n = strtoul(word, NULL, 10);

    if (n >= HANDLES) fatal("handle out of range", 64);
    return &handles[n];
}

static struct handle *opened(const char *word)
{
    struct handle *h = handle(word);

    if (!h->db) fatal("handle is not open", 64);
    return h;
}

static struct txn **slot(struct handle *h) { return h->intxn ? &h->tid : NULL; }

/* changed deals with the result of a store, create or delete. An error in a transaction has already aborted it; twoskip
 * clears the slot then, skiplist and flat leave a dangling pointer in it, which must not be used. */
static int changed(struct handle *h, int r)
{
    if (r && h->intxn) {
        h->intxn = 0;
        h->tid = NULL;
    }
    return r;
}

static int finish(struct handle *h, int (*how)(struct db *, struct txn *))
{
    struct txn *tid = h->tid;

    h->intxn = 0;
    h->tid = NULL;
    return tid ? how(h->db, tid) : 0;
}

/* ---- commands: a[0] is the name, n the number of words ---- */

static void cmd_open(int n, char **a)
{
    struct handle *h = handle(a[1]);
    struct bytes path = unhex(a[3]);
    int r;

    (void)n;
    if (h->db) fatal("handle is open already", 64);
    r = cyrusdb_open(a[2], path.p, atoi(a[4]), &h->db);
    if (r) {
        h->db = NULL;
        free(path.p);
    } else {
        h->engine = must(strdup(a[2]));
        h->path = path.p;
    }
    done(r);
}

static void cmd_close(int n, char **a)
{
    struct handle *h = opened(a[1]);
    int r = cyrusdb_close(h->db);

    (void)n;
    free(h->engine);
    free(h->path);
    memset(h, 0, sizeof *h);
    done(r);
}

static void cmd_get(int n, char **a)
{
    struct handle *h = opened(a[1]);
    struct bytes key = unhex(a[2]);
    const char *data = NULL;
    size_t len = 0;
    int r;

    (void)n;
    if (!strcmp(a[0], "lock"))
        r = cyrusdb_fetchlock(h->db, key.p, key.len, &data, &len, slot(h));
    else
        r = cyrusdb_fetch(h->db, key.p, key.len, &data, &len, slot(h));
    if (!r) row(data, len, NULL, 0);
    free(key.p);
    done(r);
}

static void cmd_next(int n, char **a)
{
    struct handle *h = opened(a[1]);
    struct bytes key = unhex(a[2]);
    const char *found = NULL, *data = NULL;
    size_t foundlen = 0, len = 0;
    int r;

    (void)n;
    if (!cyrusdb_canfetchnext(h->engine)) {
        r = CYRUSDB_NOTIMPLEMENTED;
    } else {
        r = cyrusdb_fetchnext(h->db, key.p, key.len, &found, &foundlen, &data, &len, slot(h));
        if (!r) row(found, foundlen, data ? data : "", len);
    }
    free(key.p);
    done(r);
}

static void cmd_put(int n, char **a)
{
    struct handle *h = opened(a[1]);
    struct bytes key = unhex(a[2]), value = unhex(a[3]);
    int r;

    (void)n;
    if (!strcmp(a[0], "create"))
        r = cyrusdb_create(h->db, key.p, key.len, value.p, value.len, slot(h));
    else
        r = cyrusdb_store(h->db, key.p, key.len, value.p, value.len, slot(h));
    free(key.p);
    free(value.p);
    done(changed(h, r));
}

static void cmd_delete(int n, char **a)
{
    struct handle *h = opened(a[1]);
    struct bytes key = unhex(a[2]);
    int r = cyrusdb_delete(h->db, key.p, key.len, slot(h), atoi(a[3]));

    (void)n;
    free(key.p);
    done(changed(h, r));
}

struct walk {
    long left;
};

static int print_row(void *rock, const char *key, size_t keylen, const char *data, size_t datalen)
{
    struct walk *w = rock;

    row(key, keylen, data ? data : "", datalen);
    return w->left && --w->left == 0 ? CYRUSDB_DONE : 0;
}

/* foreach H PREFIX LIMIT: with a limit the iteration is stopped by its callback, and the answer is DONE. */
static void cmd_foreach(int n, char **a)
{
    struct handle *h = opened(a[1]);
    struct bytes prefix = unhex(a[2]);
    struct walk w = { atol(a[3]) };
    int r = cyrusdb_foreach(h->db, prefix.p, prefix.len, NULL, print_row, &w, slot(h));

    (void)n;
    free(prefix.p);
    done(r);
}

static void cmd_begin(int n, char **a)
{
    struct handle *h = opened(a[1]);

    (void)n;
    if (h->intxn) fatal("transaction begun twice", 64);
    h->intxn = 1;
    done(0);
}

static void cmd_commit(int n, char **a)
{
    (void)n;
    done(finish(opened(a[1]), cyrusdb_commit));
}

static void cmd_abort(int n, char **a)
{
    (void)n;
    done(finish(opened(a[1]), cyrusdb_abort));
}

static void cmd_consistent(int n, char **a)
{
    (void)n;
    done(cyrusdb_consistent(opened(a[1])->db));
}

/* checkpoint H: rewrites the file. skiplist's own repack asserts, so there a transaction is made so large that its
 * commit checkpoints: a long value stored and deleted again, which leaves no trace in the new file. */
static void cmd_checkpoint(int n, char **a)
{
    static const char key[] = "\001oracle checkpoint\001";
    struct handle *h = opened(a[1]);
    struct txn *tid = NULL;
    struct stat st;
    char *pad;
    size_t len;
    int r;

    (void)n;
    if (strcmp(h->engine, "skiplist")) {
        done(cyrusdb_repack(h->db));
        return;
    }
    if (stat(h->path, &st)) {
        done(CYRUSDB_IOERROR);
        return;
    }
    len = 2 * (size_t)st.st_size + 20000;
    pad = must(calloc(1, len));
    r = cyrusdb_create(h->db, key, sizeof key - 1, pad, len, &tid);
    if (!r) r = cyrusdb_delete(h->db, key, sizeof key - 1, &tid, 1);
    if (!r) r = cyrusdb_commit(h->db, tid);
    free(pad);
    done(r);
}

/* dump H LEVEL: what cyrusdb_dump prints, as one row. */
static void cmd_dump(int n, char **a)
{
    struct handle *h = opened(a[1]);
    int saved, mem = memfd_create("dump", MFD_CLOEXEC), r;
    struct stat st;
    char *text;

    (void)n;
    fflush(stdout);
    saved = dup(1);
    if (mem < 0 || saved < 0 || dup2(mem, 1) < 0) fatal("cannot redirect the dump", 71);
    r = cyrusdb_dump(h->db, atoi(a[2]));
    fflush(stdout);
    if (dup2(saved, 1) < 0 || fstat(mem, &st)) fatal("cannot redirect the dump", 71);
    text = must(malloc(st.st_size + 1));
    if (pread(mem, text, st.st_size, 0) != st.st_size) fatal("cannot read the dump", 71);
    row(text, st.st_size, NULL, 0);
    free(text);
    close(saved);
    close(mem);
    done(r);
}

/* compare H A B: the sign of the handle's key order. */
static void cmd_compare(int n, char **a)
{
    struct bytes x = unhex(a[2]), y = unhex(a[3]);
    int c = cyrusdb_compar(opened(a[1])->db, x.p, x.len, y.p, y.len);

    (void)n;
    free(x.p);
    free(y.p);
    printf("= 0 %d\n", c < 0 ? -1 : c > 0);
    fflush(stdout);
}

static void cmd_detect(int n, char **a)
{
    struct bytes path = unhex(a[1]);
    const char *name = cyrusdb_detect(path.p);

    (void)n;
    printf("= 0 %s\n", name ? name : "-");
    fflush(stdout);
    free(path.p);
}

static void cmd_convert(int n, char **a)
{
    struct bytes from = unhex(a[1]), to = unhex(a[2]);
    int r = cyrusdb_convert(from.p, to.p, a[3], a[4]);

    (void)n;
    free(from.p);
    free(to.p);
    done(r);
}

/* delayed: what an idle daemon does, such as a twoskip checkpoint put off at commit. */
static void cmd_delayed(int n, char **a)
{
    (void)n, (void)a;
    libcyrus_run_delayed();
    done(0);
}

static void cmd_pid(int n, char **a)
{
    (void)n, (void)a;
    printf("= 0 %ld\n", (long)getpid());
    fflush(stdout);
}

/* txn H ID OP...: one transaction; an OP is KEY:VALUE to store or KEY to delete. Answers "ACK ID" once the commit has
 * returned, or "NACK ID CODE". */
static void cmd_txn(int n, char **a)
{
    struct handle *h = opened(a[1]);
    struct txn *tid = NULL;
    int r = 0, i;

    if (h->intxn) fatal("txn inside a transaction", 64);
    for (i = 3; i < n && !r; i++) {
        char *colon = strchr(a[i], ':');
        struct bytes key, value = { NULL, 0 };
        if (colon) {
            *colon = 0;
            value = unhex(colon + 1);
        }
        key = unhex(a[i]);
        if (colon)
            r = cyrusdb_store(h->db, key.p, key.len, value.p, value.len, &tid);
        else
            r = cyrusdb_delete(h->db, key.p, key.len, &tid, 1);
        free(key.p);
        free(value.p);
    }
    if (!r && tid) r = cyrusdb_commit(h->db, tid);
    if (r)
        printf("NACK %s %d\n", a[2], r);
    else
        printf("ACK %s\n", a[2]);
    fflush(stdout);
}

/* ---- benchmarks: timed here, on the data that the Go side has too ---- */

/* mix is splitmix64 of a seed and an index: the same sequence as benchRand in Go. */
static uint64_t mix(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

struct moment {
    uint64_t wall, cpu;
};

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static struct moment now(void)
{
    struct moment m = { clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_PROCESS_CPUTIME_ID) };

    return m;
}

/* result answers with the code, the nanoseconds and those of the processor since begin, and what was counted. */
static void result(int r, struct moment begin, uint64_t count, uint64_t sum)
{
    struct moment end = now();

    printf("= %d %llu %llu %llu %llu\n", r, (unsigned long long)(end.wall - begin.wall),
           (unsigned long long)(end.cpu - begin.cpu), (unsigned long long)count, (unsigned long long)sum);
    fflush(stdout);
}

struct keys {
    struct bytes *list;
    size_t n, room;
};

static int collect(void *rock, const char *key, size_t keylen, const char *data, size_t datalen)
{
    struct keys *k = rock;

    (void)data, (void)datalen;
    if (k->n == k->room) {
        k->room = k->room ? 2 * k->room : 1024;
        k->list = must(realloc(k->list, k->room * sizeof *k->list));
    }
    k->list[k->n].p = must(malloc(keylen + 1));
    memcpy(k->list[k->n].p, key, keylen);
    k->list[k->n++].len = keylen;
    return 0;
}

struct sum {
    uint64_t count, sum;
};

/* touch reads one byte of the key and the last of the value, as the Go side does, so that neither skips the data. */
static int touch(void *rock, const char *key, size_t keylen, const char *data, size_t datalen)
{
    struct sum *s = rock;

    s->count++;
    if (keylen) s->sum += (unsigned char)key[0];
    if (datalen) s->sum += (unsigned char)data[datalen - 1];
    return 0;
}

/* bench-get H N SEED; bench-prefix H N SEED CUT [ONLY]; bench-full H N 0: N random gets, N iterations over the keys that
 * share a random key's first LENGTH-CUT bytes, or N iterations over all. The random keys are from all that begin with
 * ONLY. */
static void cmd_bench_read(int n, char **a)
{
    struct handle *h = opened(a[1]);
    uint64_t count = strtoull(a[2], NULL, 10), seed = strtoull(a[3], NULL, 10), i;
    struct moment begin = now();
    size_t cut = n > 4 ? strtoul(a[4], NULL, 10) : 0;
    struct keys k = { NULL, 0, 0 };
    struct bytes *order;
    struct sum s = { 0, 0 };
    int full = !strcmp(a[0], "bench-full"), get = !strcmp(a[0], "bench-get");
    struct bytes only = unhex(n > 5 ? a[5] : "-");
    int r = cyrusdb_foreach(h->db, only.p, only.len, NULL, collect, &k, NULL);

    free(only.p);
    if (r || !k.n || !count) {
        result(r ? r : CYRUSDB_NOTFOUND, begin, 0, 0);
        return;
    }
    order = must(malloc(count * sizeof *order));
    for (i = 0; i < count; i++) order[i] = k.list[mix(seed, i) % k.n];
    begin = now();
    for (i = 0; i < count && !r; i++) {
        struct bytes *key = &order[i];
        if (full) {
            r = cyrusdb_foreach(h->db, "", 0, NULL, touch, &s, NULL);
        } else if (get) {
            const char *data = NULL;
            size_t len = 0;
            r = cyrusdb_fetch(h->db, key->p, key->len, &data, &len, NULL);
            if (!r) touch(&s, key->p, key->len, data, len);
        } else {
            r = cyrusdb_foreach(h->db, key->p, key->len > cut ? key->len - cut : 0, NULL, touch, &s, NULL);
        }
    }
    result(r, begin, s.count, s.sum);
    for (i = 0; i < k.n; i++) free(k.list[i].p);
    free(k.list);
    free(order);
}

/* bench-put H N KEYS LEN SEED; bench-delete (the same); bench-load (the same): stores or deletes N records "k%08d" with
 * values of LEN bytes, each in a durable transaction of its own, or stores all in one and does what its commit has put
 * off. Key i is i, or the random mix(SEED, i) if SEED is not 0, modulo KEYS. */
static void cmd_bench_write(int n, char **a)
{
    struct handle *h = opened(a[1]);
    uint64_t count = strtoull(a[2], NULL, 10), keys = strtoull(a[3], NULL, 10), i, sum = 0;
    struct moment begin;
    size_t len = strtoul(a[4], NULL, 10);
    uint64_t seed = strtoull(a[5], NULL, 10);
    int load = !strcmp(a[0], "bench-load"), gone = !strcmp(a[0], "bench-delete"), r = 0;
    struct txn *tid = NULL;
    char key[32], *value = must(malloc(len + 1));

    (void)n;
    if (!keys) keys = 1;
    memset(value, 'v', len);
    begin = now();
    for (i = 0; i < count && !r; i++) {
        uint64_t k = (seed ? mix(seed, i) : i) % keys;
        size_t keylen = snprintf(key, sizeof key, "k%08llu", (unsigned long long)k);
        size_t j;
        for (j = 0; j < 8 && j < len; j++) value[len - 1 - j] = 'a' + (i >> (4 * j)) % 16;
        if (gone)
            r = cyrusdb_delete(h->db, key, keylen, NULL, 1);
        else
            r = cyrusdb_store(h->db, key, keylen, value, len, load ? &tid : NULL);
        sum += k;
    }
    if (load && !r && tid) r = cyrusdb_commit(h->db, tid);
    if (load) libcyrus_run_delayed();
    result(r, begin, i, sum);
    free(value);
}

/* ---- the table ---- */

static const struct {
    const char *name;
    int words; /* least number, the name included */
    void (*run)(int n, char **a);
} commands[] = {
    { "open", 5, cmd_open },               /* open H ENGINE PATH FLAGS */
    { "close", 2, cmd_close },             /* close H */
    { "get", 3, cmd_get },                 /* get H KEY */
    { "lock", 3, cmd_get },                /* lock H KEY: fetchlock */
    { "next", 3, cmd_next },               /* next H KEY */
    { "put", 4, cmd_put },                 /* put H KEY VALUE */
    { "create", 4, cmd_put },              /* create H KEY VALUE */
    { "delete", 4, cmd_delete },           /* delete H KEY FORCE */
    { "foreach", 4, cmd_foreach },         /* foreach H PREFIX LIMIT */
    { "begin", 2, cmd_begin },             /* begin H */
    { "commit", 2, cmd_commit },           /* commit H */
    { "abort", 2, cmd_abort },             /* abort H */
    { "consistent", 2, cmd_consistent },   /* consistent H */
    { "checkpoint", 2, cmd_checkpoint },   /* checkpoint H */
    { "dump", 3, cmd_dump },               /* dump H LEVEL */
    { "compare", 4, cmd_compare },         /* compare H A B */
    { "detect", 2, cmd_detect },           /* detect PATH */
    { "convert", 5, cmd_convert },         /* convert FROM TO FROM-ENGINE TO-ENGINE */
    { "delayed", 1, cmd_delayed },         /* delayed */
    { "pid", 1, cmd_pid },                 /* pid */
    { "txn", 3, cmd_txn },                 /* txn H ID OP... */
    { "bench-get", 4, cmd_bench_read },
    { "bench-prefix", 5, cmd_bench_read },
    { "bench-full", 4, cmd_bench_read },
    { "bench-put", 6, cmd_bench_write },
    { "bench-delete", 6, cmd_bench_write },
    { "bench-load", 6, cmd_bench_write },
};

/* split cuts a line into words, in place. */
static int split(char *line, char ***words, size_t *room)
{
    int n = 0;
    char *w;

    for (w = strtok(line, " \n"); w; w = strtok(NULL, " \n")) {
        if ((size_t)n == *room) {
            *room = *room ? 2 * *room : 16;
            *words = must(realloc(*words, *room * sizeof **words));
        }
        (*words)[n++] = w;
    }
    return n;
}

static void run(int n, char **a)
{
    size_t i;

    for (i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, a[0])) continue;
        if (n < commands[i].words) break;
        commands[i].run(n, a);
        return;
    }
    done(USAGE);
}

int main(int argc, char **argv)
{
    char *line = NULL, **words = NULL;
    size_t size = 0, room = 0;
    int n;

    if (argc != 3) {
        fputs("usage: oracle CONFDIR ALWAYS_CHECKPOINT\n", stderr);
        return 64;
    }
    libcyrus_config_setstring(CYRUSOPT_CONFIG_DIR, argv[1]);
    libcyrus_config_setswitch(CYRUSOPT_SKIPLIST_ALWAYS_CHECKPOINT, atoi(argv[2]));
    libcyrus_init();
    while (getline(&line, &size, stdin) > 0) {
        n = split(line, &words, &room);
        if (n) run(n, words);
    }
    for (n = 0; n < HANDLES; n++)
        if (handles[n].db && !handles[n].intxn) cyrusdb_close(handles[n].db);
    libcyrus_done();
    return 0;
}
