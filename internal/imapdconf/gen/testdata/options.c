/* Prints the option table of the installed Cyrus, as its library holds it, for the generator in this directory.
 * One option a line, fields separated by tabs:
 *
 *   @ NAME TYPE DEPRECATED-SINCE PREFERRED-OPTION DEFAULT VALUE=NUMBER ...
 *
 * An absent field is "-"; a default that is there begins with "=".
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cyrus/imapopts.h>

void fatal(const char *text, int code)
{
    fprintf(stderr, "fatal: %s\n", text);
    exit(code);
}

static const char *type(enum opttype t)
{
    switch (t) {
    case OPT_DURATION: return "Duration";
    case OPT_BITFIELD: return "Bitfield";
    case OPT_STRINGLIST: return "StringList";
    case OPT_ENUM: return "Enum";
    case OPT_SWITCH: return "Switch";
    case OPT_INT: return "Int";
    case OPT_STRING: return "String";
    default: return "?";
    }
}

static void standard(const struct imapopt_s *o)
{
    const struct enum_option_s *e = o->enum_options;
    switch (o->t) {
    case OPT_SWITCH: printf("=%s", o->def.b ? "yes" : "no"); return;
    case OPT_INT: printf("=%ld", o->def.i); return;
    case OPT_ENUM:
        while (e->name && e->val != o->def.e) e++;
        printf("=%s", e->name ? e->name : "?");
        return;
    case OPT_BITFIELD:
        printf("=");
        for (const char *sep = ""; e->name; e++) {
            if (!(o->def.x & e->val) || (e > o->enum_options && e[-1].val == e->val)) continue; /* or a synonym */
            printf("%s%s", sep, e->name);
            sep = " ";
        }
        return;
    default:
        if (o->def.s) printf("=%s", o->def.s);
        else printf("-");
    }
}

int main(void)
{
    for (int i = IMAPOPT_ZERO + 1; i < IMAPOPT_LAST; i++) {
        const struct imapopt_s *o = &imapopts[i];
        printf("@\t%s\t%s\t%s\t%s\t", o->optname, type(o->t), o->deprecated_since ? o->deprecated_since : "-",
               o->preferred_opt ? imapopts[o->preferred_opt].optname : "-");
        standard(o);
        for (const struct enum_option_s *e = o->enum_options; e->name; e++) printf("\t%s=%lld", e->name, (long long)e->val);
        printf("\n");
    }
    return 0;
}
