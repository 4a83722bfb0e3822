/* A stand-in for libnvidia-ml.so.1. What it answers stands in the file that FAKE_NVML names, read anew at every question:
   a line `<device>.<question> <answer>`, or `!<code>` for a refusal; what is not there is "not supported" (3). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uintptr_t device; /* index + 1, and 1000 * (part + 1) more for a part of a split card */

static int answer(device d, const char *question, char *text) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char key[100], line[300];
    if (!file) return 9;
    if (!d) snprintf(key, sizeof key, "%s ", question);
    else if (d < 1000) snprintf(key, sizeof key, "%d.%s ", (int)d - 1, question);
    else snprintf(key, sizeof key, "%d.%d.%s ", (int)(d % 1000) - 1, (int)(d / 1000) - 1, question);
    int code = 3;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key))) {
            strcpy(text, line + strlen(key));
            text[strcspn(text, "\n")] = 0;
            code = text[0] == '!' ? atoi(text + 1) : 0;
            break;
        }
    fclose(file);
    return code;
}

static int number(device d, const char *question, unsigned *out) {
    char text[300];
    int code = answer(d, question, text);
    if (!code) *out = strtoul(text, NULL, 0);
    return code;
}

static int string(device d, const char *question, char *out, unsigned room) {
    char text[300];
    int code = answer(d, question, text);
    if (!code) snprintf(out, room, "%s", text);
    return code;
}

const char *nvmlErrorString(int code) { return "an error"; }
int nvmlInitWithFlags(unsigned flags) { unsigned done; return number(0, "init", &done); }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *out, unsigned room) { return string(0, "driver", out, room); }
int nvmlSystemGetCudaDriverVersion_v2(unsigned *out) { return number(0, "cuda", out); }
int nvmlDeviceGetCount_v2(unsigned *out) { return number(0, "count", out); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *out) {
    char text[300];
    int code = answer(index + 1, "handle", text);
    *out = index + 1;
    return code == 3 ? 0 : code;
}

int nvmlDeviceGetMigMode(device d, unsigned *now, unsigned *next) { return number(d, "mig", now); }
int nvmlDeviceGetMaxMigDeviceCount(device d, unsigned *out) { *out = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(device d, unsigned part, device *out) {
    char text[300];
    *out = d + 1000 * (part + 1);
    return answer(*out, "uuid", text) ? 6 : 0;
}

int nvmlDeviceGetUUID(device d, char *out, unsigned room) { return string(d, "uuid", out, room); }
int nvmlDeviceGetName(device d, char *out, unsigned room) { return string(d, "name", out, room); }
int nvmlDeviceGetPciInfo_v3(device d, char *info) { return string(d, "bus", info + 36, 32); }

int nvmlDeviceGetCudaComputeCapability(device d, int *major, int *minor) {
    char text[300];
    int code = answer(d, "capability", text);
    if (!code) sscanf(text, "%d.%d", major, minor);
    return code;
}

typedef unsigned long long bytes;

static int memory(device d, const char *question, bytes *total, bytes *used, bytes *free) {
    char text[300];
    int code = answer(d, question, text);
    if (!code) sscanf(text, "%llu %llu %llu", total, used, free);
    return code;
}
int nvmlDeviceGetMemoryInfo(device d, bytes *info) { return memory(d, "memory", info, info + 2, info + 1); }
int nvmlDeviceGetMemoryInfo_v2(device d, bytes *info) { return memory(d, "memory_v2", info + 1, info + 4, info + 3); }

int nvmlDeviceGetUtilizationRates(device d, unsigned *rates) {
    char text[300];
    int code = answer(d, "utilization", text);
    if (!code) sscanf(text, "%u %u", rates, rates + 1);
    return code;
}

struct process { unsigned pid; bytes held; unsigned instance, part; };

int nvmlDeviceGetComputeRunningProcesses_v3(device d, unsigned *count, struct process *out) {
    char text[300], *at = text;
    int code = answer(d, "processes", text), found = 0, length;
    unsigned pid;
    bytes held;
    if (code) return code;
    while (sscanf(at, "%u:%llu%n", &pid, &held, &length) == 2) {
        if (out) out[found] = (struct process){pid, held, -1u, -1u};
        found++;
        at += length;
    }
    *count = found;
    return out || !found ? 0 : 7;
}

int nvmlDeviceGetTemperature(device d, int sensor, unsigned *out) { return number(d, "temperature", out); }
int nvmlDeviceGetPowerUsage(device d, unsigned *out) { return number(d, "power", out); }
int nvmlDeviceGetEnforcedPowerLimit(device d, unsigned *out) { return number(d, "limit", out); }
int nvmlDeviceGetClockInfo(device d, int type, unsigned *out) { return number(d, type == 1 ? "clock" : "other", out); }
int nvmlDeviceGetPerformanceState(device d, unsigned *out) { return number(d, "pstate", out); }

int nvmlDeviceGetCurrentClocksEventReasons(device d, bytes *out) {
    unsigned bits;
    int code = number(d, "throttle", &bits);
    if (!code) *out = bits;
    return code;
}
