/* The oracle of names: what real Cyrus makes of mailbox names, access control lists and patterns, for tests.
 *
 *   names IMAPD.CONF ADMIN(0|1) USER
 *
 * One command a line on standard input, its words in hex, "-" if empty; USER is a word too, "-" for nobody. Each answer
 * is one line: words in hex, "!" for none, or numbers after "#". The functions are those of libcyrus and libcyrus_imap 3.6, whose
 * headers are not installed, or not usable. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct glob glob;
extern glob *glob_init(const char *pattern, char sep);
extern int glob_test(glob *g, const char *str);
extern void glob_free(glob **g);
extern int cyrus_acl_strtomask(const char *str, int *mask);
extern char *cyrus_acl_masktostr(int mask, char *str);
extern int cyrus_acl_set(char **acl, const char *identifier, int mode, int access, void *canonproc, void *rock);
extern int cyrus_init(const char *conf, const char *ident, unsigned flags, int mask);
extern int mboxname_init_namespace(void *ns, int isadmin);
extern int mboxname_policycheck(const char *name);
extern char *mboxname_from_external(const char *name, const void *ns, const char *userid);
extern char *mboxname_to_external(const char *name, const void *ns, const char *userid);
extern char *mboxname_to_userid(const char *name);
extern void mboxname_hash(char *dest, size_t len, const char *root, const char *name);
extern char *mboxname_conf_getpath_legacy(const void *mbname, const char *suffix);
extern void *mbname_from_userid(const char *userid);

const int config_need_data = 0;

void fatal(const char *text, int code)
{
    fprintf(stderr, "fatal: %s\n", text);
    _Exit(code ? code : 1);
}

/* Every program of Cyrus brings its own locks; one thread needs none. */
void *cyrus_mutex_alloc(void) { return malloc(1); }
int cyrus_mutex_lock(void *m) { return (void)m, 0; }
int cyrus_mutex_unlock(void *m) { return (void)m, 0; }
void cyrus_mutex_free(void *m) { free(m); }

static char *unhex(char *s)
{
    char *out = s, *p = s;
    unsigned c;

    if (!s || !strcmp(s, "-")) return "";
    for (; sscanf(p, "%2x", &c) == 1; p += 2) *out++ = c;
    *out = 0;
    return s;
}

static void put(const char *s)
{
    if (!s) {
        puts("!");
        return;
    }
    if (!*s) putchar('-');
    for (; *s; s++) printf("%02x", (unsigned char)*s);
    putchar('\n');
}

int main(int argc, char **argv)
{
    static long long ns[8192];
    static char line[1 << 20], path[8192];
    const char *user;
    int mask;

    if (argc != 4) return 64;
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    if (cyrus_init(argv[1], "names", 0, config_need_data)) return 75;
    if (mboxname_init_namespace(ns, atoi(argv[2]))) return 78;
    user = unhex(argv[3]);
    if (!*user) user = NULL;
    while (fgets(line, sizeof line, stdin)) {
        char *w[4] = { NULL, NULL, NULL, NULL }, *save;
        int n = 0;
        for (char *t = strtok_r(line, " \n", &save); t && n < 4; t = strtok_r(NULL, " \n", &save)) w[n++] = t;
        char *a = unhex(w[1]), *b = unhex(w[2]);
        if (!strcmp(w[0], "policy")) printf("#%d\n", mboxname_policycheck(a) != 0);
        else if (!strcmp(w[0], "from")) put(mboxname_from_external(a, ns, user));
        else if (!strcmp(w[0], "to")) put(mboxname_to_external(a, ns, user));
        else if (!strcmp(w[0], "owner")) put(mboxname_to_userid(a));
        else if (!strcmp(w[0], "path")) { mboxname_hash(path, sizeof path, "", a); put(path); }
        else if (!strcmp(w[0], "userfile")) put(mboxname_conf_getpath_legacy(mbname_from_userid(a), b));
        else if (!strcmp(w[0], "rights")) {
            char text[64];
            int r = cyrus_acl_strtomask(a, &mask);
            printf("#%d ", r != 0);
            put(cyrus_acl_masktostr(mask, text));
        } else if (!strcmp(w[0], "set")) {
            /* set ACL IDENTIFIER MODE+RIGHTS */
            char *rights = unhex(w[3]), *acl = strdup(a);
            cyrus_acl_strtomask(rights + 1, &mask);
            if (cyrus_acl_set(&acl, b, *rights - '0', mask, NULL, NULL)) put(NULL);
            else put(acl);
        } else if (!strcmp(w[0], "glob")) {
            glob *g = glob_init(a, *unhex(w[3]));
            printf("#%d\n", glob_test(g, b));
            glob_free(&g);
        } else puts("?");
    }
    return 0;
}
