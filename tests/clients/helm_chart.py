"""Renders and lints a chart with Helm's own code, and prints what came of it as JSON.

Arguments: the chart's folder, and the values as JSON. What Helm refuses is an `error`.
"""

import json
import sys

import helm_python as helm

folder, values = sys.argv[1], json.loads(sys.argv[2])
saw = {"helm": helm.helm_sdk_version()}
try:
    with helm.Chart.load(folder) as chart:
        saw["app_version"] = chart.metadata["appVersion"]
        chart.validate_schema(values)
        saw["rendered"] = chart.render(values, name="nightly", namespace="platform")
    saw["lint"] = helm.lint(folder, values, strict=True, namespace="platform")
except helm.HelmError as error:
    saw["error"] = str(error)
print(json.dumps(saw))
