/* Real Cyrus's dlist functions behind a line protocol, for the tests of package dlist.
 *
 *   oracle IMAPD.CONF
 *
 * Each line on standard input is "s" or "p" and a text in hex. The answer to "s" is one line:
 *
 *   what the parser of stored values made of it: "!", or events, joined by commas: "(KEY", "[KEY" (a list or key/value
 *   list opens), ")" (one closes), "KEY=VALUE", "KEY=" and a tilde for NIL; keys and values in hex
 * and to "p" it is what the other parser, that of the wire, and the printer made of the text: "!", or hex. A literal
 * without "+" crashes that parser, as it wants to answer it. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct buf {
    char *s;
    size_t len, alloc;
    unsigned flags;
};
struct dlist;
struct saxdata {
    const struct buf kbuf;
    const char *data;
    void *rock;
};
typedef int saxproc(int type, struct saxdata *d);
extern int dlist_parsesax(const char *base, size_t len, int parsekey, saxproc *proc, void *rock);
extern int dlist_parsemap(struct dlist **dlp, int parsekey, int isbackup, const char *base, unsigned len);
extern void dlist_printbuf(const struct dlist *dl, int printkeys, struct buf *out);
extern void dlist_free(struct dlist **dlp);
extern int cyrus_init(const char *conf, const char *ident, unsigned flags, int need);

static jmp_buf escape;

void fatal(const char *text, int code)
{
    fprintf(stderr, "fatal: %s\n", text);
    longjmp(escape, code ? code : 1);
}

/* Cyrus's programs bring these along; one thread needs no locks. */
void *cyrus_mutex_alloc(void) { return &escape; }
int cyrus_mutex_lock(void *m) { return m == NULL; }
int cyrus_mutex_unlock(void *m) { return m == NULL; }
void cyrus_mutex_free(void *m) { (void)m; }

static char *events;
static size_t used, room;

static void put(const char *s, size_t n)
{
    if (used + n + 1 > room) events = realloc(events, room = 2 * room + n + 1);
    memcpy(events + used, s, n);
    used += n;
}

static void hex(const char *s, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (; n; n--, s++) {
        char two[2] = { digits[(unsigned char)*s >> 4], digits[*s & 15] };
        put(two, 2);
    }
}

static int event(int type, struct saxdata *d)
{
    static const char *const opening[] = { "(", ")", "[", ")" };
    if (used) put(",", 1);
    if (type < 4) put(opening[type], 1);
    if (type == 1 || type == 3) return 0;
    hex(d->kbuf.s, d->kbuf.len);
    if (type < 4) return 0;
    put("=", 1);
    if (d->data) hex(d->data, strlen(d->data));
    else put("~", 1);
    return 0;
}

static int parsed(char *text, size_t len)
{
    return len > 0 && dlist_parsesax(text, len, 0, event, NULL) == 0;
}

static int printed(char *text, size_t len)
{
    struct dlist *dl = NULL;
    struct buf out = { NULL, 0, 0, 0 };
    if (setjmp(escape) || len == 0 || dlist_parsemap(&dl, 0, 0, text, len) != 0) return 0;
    dlist_printbuf(dl, 0, &out);
    hex(out.s, out.len);
    dlist_free(&dl);
    return 1;
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    if (argc != 2 || setjmp(escape)) return 2;
    cyrus_init(argv[1], "dlist", 0, 0);
    while ((n = getline(&line, &size, stdin)) > 0) {
        size_t len = 0;
        char *text = calloc(1, n / 2 + 2);
        for (char *p = line + 1; p[0] != '\n' && p[0] && p[1]; p += 2) {
            unsigned v;
            sscanf(p, "%2x", &v);
            text[len++] = v;
        }
        used = 0;
        if (line[0] == 's' ? parsed(text, len) : printed(text, len)) printf("%.*s\n", (int)used, events);
        else printf("!\n");
        fflush(stdout);
        free(text);
    }
    return 0;
}
