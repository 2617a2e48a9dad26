// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/cpu.h"

#include <sched.h>

int cpu_home(void)
{
    cpu_set_t set;
    int home = CPU_SETSIZE - 1;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2 ||
        sched_setaffinity(0, sizeof set, &set) != 0)
        return -1;
    while (!CPU_ISSET(home, &set))
        home--;
    return home;
}

void cpu_stay(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}
