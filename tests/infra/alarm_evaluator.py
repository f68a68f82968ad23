"""Evaluates CloudWatch alarms, as they are read back from the API, against series of metrics: moto never does.

Written from CloudWatch's documentation, for what the alarms of infra/terraform use: metric math with + * / and FILL, thresholds,
datapoints to alarm, treatment of missing data. An alarm looks at its last EvaluationPeriods periods.
"""

BEYOND = {
    "GreaterThanThreshold": lambda value, bound: value > bound,
    "LessThanThreshold": lambda value, bound: value < bound,
}


class Gap:
    """A period without a value: whatever is computed from it is missing too."""

    def combined(self, _):
        return self

    __add__ = __radd__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = combined


GAP = Gap()


def fill(value, other):
    return other if value is GAP else value


def values(alarm, series):
    """The value of the alarm's expression in each period; None where it is missing."""
    (expression,) = (query["Expression"] for query in alarm["Metrics"] if "Expression" in query)
    code = compile(expression, alarm["AlarmName"], "eval")
    result = []
    for period in range(alarm["EvaluationPeriods"]):
        known = {name: GAP if line[period] is None else line[period] for name, line in series.items()}
        try:
            value = eval(code, {"__builtins__": {}}, {"FILL": fill, **known})
        except ZeroDivisionError:
            # CloudWatch gives no datapoint for a division by zero.
            value = GAP
        result.append(None if value is GAP else value)
    return result


def state(alarm, series):
    beyond = BEYOND[alarm["ComparisonOperator"]]
    missing = {"breaching": True, "notBreaching": False}[alarm["TreatMissingData"]]
    breaches = [missing if value is None else beyond(value, alarm["Threshold"]) for value in values(alarm, series)]
    return "ALARM" if sum(breaches) >= alarm["DatapointsToAlarm"] else "OK"


def inputs(names, result):
    """Values of the metrics with which the expression has this result."""
    if names == {"bad", "good"}:
        return {"bad": result, "good": 100 - result}
    if names == {"bad", "all"}:
        return {"bad": result, "all": 100}
    first = min(names)
    return {name: result if name == first else 0 for name in names}


def check(alarm):
    """Each alarm fires when it should, and not before."""
    name, bound, periods = alarm["AlarmName"], alarm["Threshold"], alarm["EvaluationPeriods"]
    names = {query["Id"] for query in alarm["Metrics"] if "MetricStat" in query}
    over = alarm["ComparisonOperator"] == "GreaterThanThreshold"
    well, ill = (bound / 2, bound * 1.5 + 1) if over else (bound + 1, bound / 2)

    def series(results):
        given = [inputs(names, result) if result is not None else dict.fromkeys(names) for result in results]
        return {metric: [period[metric] for period in given] for metric in names}

    expected = [
        ([well] * periods, "OK"),
        ([bound] * periods, "OK"),
        ([ill] * periods, "ALARM"),
        ([well] + [ill] * (periods - 1), "OK"),
        ([ill] * (periods - 1) + [well], "OK"),
        ([None] * periods, "ALARM" if alarm["TreatMissingData"] == "breaching" else "OK"),
    ]
    for results, wanted in expected:
        found = state(alarm, series(results))
        assert found == wanted, f"{name}: {results} gives {found}, not {wanted}"
    if "bad" in names:
        # Nothing bad is no metric at all, and must not fire; neither must silence of both.
        other = next(iter(names - {"bad"}))
        assert state(alarm, {"bad": [None] * periods, other: [100] * periods}) == "OK", name
        assert state(alarm, {"bad": [0] * periods, other: [0] * periods}) == "OK", name
