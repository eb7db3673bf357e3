/* Real Cyrus's reading of imapd.conf behind a line protocol, for the tests of package imapdconf.
 *
 * Each line on standard input is "WHAT NEED SERVICE PATH": WHAT is a for all options or s for those that were set; NEED
 * is 1 if partitions are needed; SERVICE is "-" for none. The answer is a line for each option and each key outside the
 * table, "o NAME VALUE" and "k NAME VALUE", VALUE in hex with "=" in front, or "-" if there is none; names are in hex as
 * well, with "=". The last line is ".", or "! TEXT" if the library called fatal().
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cyrus/imapopts.h>

extern const char *config_ident;
extern void config_read(const char *file, const int need);
extern void config_foreachoverflowstring(void (*func)(const char *, const char *, void *), void *rock);
extern int config_parseduration(const char *s, int unit, int *seconds);

void fatal(const char *text, int code)
{
    printf("! %d %s\n", code, text);
    fflush(stdout);
    _exit(0);
}

static void hex(const char *s)
{
    if (!s) {
        printf(" -");
        return;
    }
    printf(" =");
    for (; *s; s++) printf("%02x", (unsigned char)*s);
}

static void key(const char *name, const char *value, void *rock)
{
    (void)rock;
    printf("k");
    hex(name);
    hex(value);
    printf("\n");
}

static void option(const struct imapopt_s *o)
{
    char buf[4096] = "";
    const struct enum_option_s *e = o->enum_options;
    int seconds;
    printf("o");
    hex(o->optname);
    switch (o->t) {
    case OPT_SWITCH: hex(o->val.b ? "yes" : "no"); break;
    case OPT_INT:
        snprintf(buf, sizeof(buf), "%d", (int)o->val.i);
        hex(buf);
        break;
    case OPT_ENUM:
        while (e->name && e->val != o->val.e) e++;
        hex(e->name ? e->name : "?");
        break;
    case OPT_BITFIELD:
        for (; e->name; e++) {
            if (!(o->val.x & e->val) || (e > o->enum_options && e[-1].val == e->val)) continue;
            if (buf[0]) strcat(buf, " ");
            strcat(buf, e->name);
        }
        hex(buf);
        break;
    case OPT_DURATION: /* in seconds, as if that were the unit of all */
        if (o->val.s && config_parseduration(o->val.s, 's', &seconds) == 0) snprintf(buf, sizeof(buf), "%d", seconds);
        hex(o->val.s ? buf : NULL);
        break;
    default: hex(o->val.s);
    }
    printf("\n");
}

static void answer(char what, int need, const char *service, const char *path)
{
    if (strcmp(service, "-")) config_ident = service;
    config_read(path, need);
    for (int i = IMAPOPT_ZERO + 1; i < IMAPOPT_LAST; i++)
        if (what == 'a' || imapopts[i].seen) option(&imapopts[i]);
    config_foreachoverflowstring(key, NULL);
    printf(".\n");
    fflush(stdout);
    _exit(0);
}

int main(void)
{
    char line[4096], service[256], path[4096], what;
    int need, status;
    while (fgets(line, sizeof(line), stdin)) {
        if (sscanf(line, "%c %d %255s %4000s", &what, &need, service, path) != 4) return 2;
        if (fork() == 0) answer(what, need, service, path);
        if (wait(&status) < 0 || status != 0) {
            printf("! 0 died with status %d\n", status);
            fflush(stdout);
        }
    }
    return 0;
}
